"""Engines without Ray: their reports are made up, and their clock is the test's."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from search.engine.engine import Engine
from search.history.book import Trial
from search.history.log import History, Mirror
from search.spec.spec import SearchSpec

OPENED: list[History] = []  # by `start`; a test that counts files closes them


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def start(
    spec: SearchSpec,
    path: Path | None = None,
    clock: Clock | None = None,
    mirror: Mirror | None = None,
) -> Engine:
    """An engine on a new driver's history; the clock is its stopwatch, too."""
    history = History(path, clock or Clock(), mirror)
    OPENED.append(history)
    history.write("start", search="tiny-000000", spec=spec.model_dump(mode="json"), format=1)
    return Engine(spec, history, stopwatch=history.clock)


def metrics(trial: Trial, samples: int, loss: float) -> dict[str, Any]:
    return {"samples": samples, "step": samples // 8, "val_loss": loss, "diverged_at": None}


def loss_of(trial: Trial, samples: int) -> float:
    """A made-up loss: sgd is worse, more training is better, trials differ."""
    return (trial.optimizer == "sgd") + random.Random(trial.number).random() + 10 / samples


def advance(engine: Engine, trial: Trial) -> None:
    """Bring a trial to its next report."""
    levels = [*engine.rung_levels(trial), trial.config["steps"] * trial.config["batch_size"]]
    samples = next(level for level in levels if level > trial.samples)
    engine.report(trial.number, metrics(trial, samples, loss_of(trial, samples)))


def run(engine: Engine, workers: int = 2, until: int | None = None) -> None:
    """Work through a search, or through so many reports of it."""
    reports = 0
    while until is None or reports < until:
        while len(engine.active) < workers and (trial := engine.next()):
            engine.begin(trial.number)
        if not engine.active:
            break
        advance(engine, engine.book.trials[min(engine.active)])
        reports += 1


def chosen(engine: Engine) -> list[dict[str, Any]]:
    return [trial.chosen for trial in engine.book.trials.values()]
