"""How good the samples of a training are, in numbers that need no downloaded network.

Three numbers, each on `samples` generated examples against as many held-out ones: the squared
maximum mean discrepancy (the headline; 0 for real data), the Fréchet distance, and coverage (the
share of held-out examples that have a sample near them; it falls when modes are missing). Beside
them stand the same numbers for other real examples and for noise. They depend on the number of
examples, so they compare trials of one search, and not searches.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainable.base.tensors import scaled, view
from trainable.config import TrialConfig, TrialSettings
from trainable.data.parts import Data, FiledPart, Part
from trainable.quality.distances import coverage, frechet_distance, mmd
from trainable.quality.features import NO_LABELS, Extractor, build_extractor, extract
from trainable.quality.images import GRID_IMAGES, POINTS, is_image, write_grid, write_points
from trainable.report import sample
from trainable.train import TrainState

FEWEST = 16  # examples that a distance is measured on
SEED = 17
FITTED_OF_FILES = 8192  # examples of data larger than memory that a classifier is fitted to


def finish(state: TrainState, metrics: dict[str, Any], grid: Path | None = None) -> dict[str, Any]:
    """The last report of a training that is complete, with its samples measured too.

    What can be looked at is drawn to `grid`. It is part of the validation, and of its seconds.
    """
    began, weights = time.perf_counter(), metrics["weights"]
    found, samples = measure(state, weights)
    if grid is not None and state.config.loss is None:
        draw(state, weights, samples, grid)
    seconds = metrics["validation_seconds"] + time.perf_counter() - began
    return metrics | found | {"validation_seconds": seconds}


def draw(state: TrainState, weights: str, samples: Tensor | None, path: Path) -> None:
    """Draw images, or points of two or three dimensions: those that were measured, if it can be.

    With labels a grid shows all classes in turn.
    """
    if is_image(state.data.shape):
        if samples is None or state.batches.labels is not None or len(samples) < GRID_IMAGES:
            samples = sample(state, weights, GRID_IMAGES)
        write_grid(samples[:GRID_IMAGES], path)
    elif state.data.shape in ((2,), (3,)):
        points = sample(state, weights, POINTS) if samples is None else samples
        write_points(points, state.limit, path)


def measure(state: TrainState, weights: str) -> tuple[dict[str, Any], Tensor | None]:
    """The quality of samples drawn with the named weights and its references, and the samples.

    Nothing where it is switched off, or where budget or data are too small to say anything. It
    draws from no random stream of the training. A training that is done is not lost because it
    can't be measured: the reason then is `quality_error`.
    """
    try:
        yardstick = yardstick_for(state)
        if yardstick is None:
            return {}, None
        samples = sample(state, weights, yardstick.count, yardstick.steps, yardstick.labels)
        return yardstick.values(samples), samples
    except ValueError as error:
        return {"quality_error": str(error)}, None


def try_features(settings: TrialSettings, data: Data) -> None:
    """See that the features that are asked for can be computed, before anything starts.

    Raises:
        ValueError: they can't; the message says why.
    """
    quality = settings.affordable_quality()
    if quality is None or quality.features is None:
        return
    if quality.features == "labels" and not data.classes:
        raise ValueError(NO_LABELS)
    if quality.features in ("kmeans", "labels") and len(data.shape) == 3:
        return  # they can, and it takes a second or more
    extractor = build_extractor(str(quality.features), fitted_on(data), torch.device("cpu"))
    extract(extractor, scaled(view(data.train.some(2).x)), str(quality.features))


class Yardstick:
    """Held-out examples and what to compare them by; made once for all trials of a process."""

    def __init__(
        self, data: Data, features: str | None, count: int, steps: int, device: torch.device
    ) -> None:
        self.count, self.steps, self.device = count, steps, device
        held_out = _first(data.validation, count)
        self.labels = None if held_out.labels is None else view(held_out.labels)
        self.extractors = _extractors(data, features, device)
        self.reference = self._features(scaled(view(held_out.x)))
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(count, *data.shape, generator=generator)
        self.references = {
            **self._compare(scaled(view(_first(data.test, count).x)), "_real"),
            **self._compare(noise.clamp(-data.limit, data.limit), "_noise"),
        }

    def values(self, samples: Tensor) -> dict[str, float]:
        """The numbers of samples [count, *shape], and the references.

        Raises:
            ValueError: some sample is not finite.
        """
        if not samples.isfinite().all():
            raise ValueError("quality: some samples are not finite")
        return {**self._compare(samples, ""), **self.references}

    def _features(self, x: Tensor) -> list[np.ndarray]:
        """By which the discrepancy is measured, and by which the other two."""
        found = {
            name: x.flatten(1).double().numpy()
            if extractor is None
            else extract(extractor, x.to(self.device), name)
            for name, extractor in dict(self.extractors).items()
        }
        return [found[name] for name, _ in self.extractors]

    def _compare(self, x: Tensor, suffix: str) -> dict[str, float]:
        (ours, others), (real, reals) = self._features(x), self.reference
        return {
            f"quality_mmd{suffix}": mmd(real, ours),
            f"quality_fd{suffix}": frechet_distance(reals, others),
            f"quality_coverage{suffix}": coverage(reals, others),
        }


_kept: tuple[str, Yardstick] | None = None  # of the trial that this process ran last


def yardstick_for(state: TrainState) -> Yardstick | None:
    """The yardstick of this training, kept for the next one on the same data."""
    global _kept
    config, data = state.config, state.data
    quality = config.affordable_quality()
    if quality is None:
        return None
    assert quality.samples is not None and quality.steps is not None
    count = min(quality.samples, len(data.validation.x), len(data.test.x))
    if count < FEWEST:
        return None
    key = f"{_identity(config)} {count} {quality.steps} {state.device}"
    if _kept is None or _kept[0] != key:
        made = Yardstick(data, quality.features, count, quality.steps, state.device)
        _kept = key, made
    return _kept[1]


def _extractors(
    data: Data, features: str | None, device: torch.device
) -> list[tuple[str, Extractor | None]]:
    """Two: for the discrepancy, and for distance and coverage. None: the numbers themselves."""
    if features is not None:
        names = [features, features]
    elif len(data.shape) == 3:  # images, or latents of them
        names = ["random", "labels" if data.classes else "kmeans"]
    else:
        return [("numbers", None)] * 2
    made = {name: build_extractor(name, fitted_on(data), device) for name in dict.fromkeys(names)}
    return [(name, made[name]) for name in names]


def fitted_on(data: Data) -> Part:
    """The training examples that extractors are fitted to: all that are in memory."""
    return data.train.some(FITTED_OF_FILES) if isinstance(data.train, FiledPart) else data.train


def _first(part: Part, count: int) -> Part:
    return part.take(slice(count))


def _identity(config: TrialConfig) -> Any:
    return f"{config.dataset.model_dump_json()} {config.quality and config.quality.features}"
