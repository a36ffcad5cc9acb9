"""One config trained over its full budget, without Ray."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainable import checkpoint
from trainable.config import TrialConfig
from trainable.datasets import load_data
from trainable.images import GRID_IMAGES, is_image, write_grid
from trainable.quality import measure
from trainable.report import next_report, report, sample
from trainable.shelf import use_code
from trainable.train import TrainState, train_until

Progress = Callable[[dict[str, Any]], None]
Note = Callable[[str], None]


def train(
    config: TrialConfig,
    out: Path | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> dict[str, Any]:
    """Train `config` over its full budget and return its last report.

    With `out`, the checkpoint, the metrics and a sample grid are written there. `progress` is
    called with each report, `note` with what people should know of the data.

    Raises:
        ValueError: the data or the model can't be trained.
    """
    use_code(config.code)
    data = load_data(config.dataset)
    if note:
        for line in data.notes:
            note(line)
    state = TrainState(config, data)
    metrics: dict[str, Any] = {}
    while state.samples < config.samples and state.diverged_at is None:
        train_until(state, next_report(config, [], state.samples)[0])
        metrics = report(state) | {"diverged_at": state.diverged_at}
        if state.samples >= config.samples and state.diverged_at is None:
            metrics |= measure(state, metrics["weights"])
        if progress:
            progress(metrics)
    if out:
        checkpoint.save(state, out / checkpoint.NAME, metrics)
        (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        if is_image(data.shape) and config.loss is None:
            write_grid(sample(state, metrics["weights"], GRID_IMAGES), out / "samples.png")
    return metrics
