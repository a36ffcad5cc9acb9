"""One config trained over its full budget, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trainable.actor import checkpoint
from trainable.base.device import check_device
from trainable.base.errors import BadInput
from trainable.base.plain import to_json
from trainable.base.shelf import use_code
from trainable.config import TrialConfig, TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.preflight import try_model, try_optimizer
from trainable.quality.measure import finish, try_features
from trainable.rehearsal import rehearse
from trainable.report import next_report, report
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
        BadInput: the data, the model, the machine or `out` won't do.
    """
    state = begin(config, out)
    if note:
        for line in state.data.notes:
            note(line)
    metrics: dict[str, Any] = {}
    while state.samples < config.samples and state.diverged_at is None:
        train_until(state, next_report(config, [], state.samples)[0])
        metrics = report(state) | {"diverged_at": state.diverged_at}
        if state.samples >= config.samples and state.diverged_at is None:
            metrics = finish(state, metrics, out and out / "samples.png")
        if progress:
            progress(metrics)
    if out:
        checkpoint.save(state, out / checkpoint.NAME, metrics)
        (out / "metrics.json").write_text(to_json(metrics, indent=2) + "\n")
    return metrics


def begin(config: TrialConfig, out: Path | None) -> TrainState:
    """A training before its first step, after all that can be tried before it.

    Raises:
        BadInput: it can't begin; the message says why.
    """
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}") from error
    try:
        use_code(config.code)
        check_device(config.device)
        data = load_data(config.dataset)
        try_settings(config, [config], data)
        return TrainState(config, data)
    except ValueError as error:
        raise BadInput(str(error)) from error


def try_settings(settings: TrialSettings, configs: Iterable[TrialConfig], data: Data) -> None:
    """Try model and features once, and a trial in small of each config.

    Raises:
        ValueError: one of them won't do; the message says why.
    """
    configs = list(configs)
    try_model(settings, data)
    for config in configs:
        try_optimizer(config.optimizer.type, settings.device)
    try_features(settings, data)
    for config in configs:
        rehearse(config, data)
