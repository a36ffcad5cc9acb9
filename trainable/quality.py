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

from trainable.config import TrialConfig, TrialSettings
from trainable.datasets import Data, FiledPart, Part
from trainable.features import NO_LABELS, Extractor, build_extractor, extract
from trainable.images import GRID_IMAGES, POINTS, is_image, write_grid, write_points
from trainable.report import sample
from trainable.tensors import scaled, view
from trainable.train import TrainState

FEWEST = 16  # examples that a distance is measured on
BANDWIDTHS = (0.5, 1.0, 2.0)  # of the kernels, in median distances between real examples
NEIGHBOURS = 5  # of coverage (Naeem et al. 2020)
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


def mmd(real: np.ndarray, ours: np.ndarray) -> float:
    """The unbiased estimate of the squared MMD of features [N, D] (Gretton et al. 2012, eq. 3).

    Gaussian kernels of three bandwidths, averaged; it can be a little below zero.
    """
    n, m = len(real), len(ours)
    rr, oo, ro = _distances(real, real), _distances(ours, ours), _distances(real, ours)
    median = np.median(rr[np.triu_indices(n, 1)])
    total = 0.0
    for factor in BANDWIDTHS:
        width = 2 * max(factor * median, 1e-12) ** 2
        k_rr, k_oo, k_ro = (np.exp(-(d**2) / width) for d in (rr, oo, ro))
        within = (k_rr.sum() - n) / (n * (n - 1)) + (k_oo.sum() - m) / (m * (m - 1))
        total += within - 2 * k_ro.mean()
    return float(total / len(BANDWIDTHS))


def frechet_distance(real: np.ndarray, ours: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] (Heusel et al. 2017).

    With C = A'A for centred features A over sqrt(N - 1), and A = QR, the last trace is the sum of
    the singular values of R1 R2': no matrix is larger than the lesser of N and D.
    """
    means = real.mean(0) - ours.mean(0)
    a1, a2 = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (real, ours))
    r1, r2 = (np.asarray(np.linalg.qr(a, mode="r")) for a in (a1, a2))
    shared = np.linalg.svd(r1 @ r2.T, compute_uv=False).sum()
    return float(means @ means + (a1**2).sum() + (a2**2).sum() - 2 * shared)


def coverage(real: np.ndarray, ours: np.ndarray) -> float:
    """The share of real examples with a sample nearer than their 5th real neighbour.

    (Naeem et al. 2020, eq. 5)
    """
    within = np.sort(_distances(real, real), axis=1)
    radius = within[:, min(NEIGHBOURS, len(real) - 1)]  # the nearest is the example itself
    return float((_distances(real, ours).min(1) < radius).mean())


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances [N, M] of the rows of a and b."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    distances: np.ndarray = np.sqrt(squares.clip(0))
    return distances


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
