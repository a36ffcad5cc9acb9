"""A whole search in virtual time: the live search's decisions on given losses."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from search.engine.engine import Engine
from search.forecast.curves import Landscape
from search.history.book import Book, Trial
from search.history.log import History
from search.spec.spec import SearchSpec


class Clock:
    """Virtual time, in units of one full training."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Played:
    """A whole search in virtual time."""

    book: Book
    compute: float  # workers x time until it ended, in full trainings
    trace: tuple[tuple[float, float], ...]  # as in an Outcome


def play(spec: SearchSpec, curves: Landscape, workers: int, limit: float = math.inf) -> Played:
    """A search on given losses, with `workers` trials at a time, until `limit` is spent."""
    clock = Clock()
    history = History(None, clock)
    given = spec.model_dump(mode="json")
    history.write("start", search="replay-000000", spec=given, format=1)
    engine = Engine(spec, history)
    queue: list[tuple[float, int, int]] = []  # (time, trial, samples) of the reports to come
    trace: list[tuple[float, float]] = []

    def work(trial: Trial) -> None:
        target = next_target(engine, trial)
        time = (target - trial.samples) / trial.full_samples
        heapq.heappush(queue, (clock.now + time, trial.number, target))

    def fill() -> None:
        while len(engine.active) < workers and (trial := engine.next()) is not None:
            engine.begin(trial.number)
            work(trial)

    fill()
    while queue and queue[0][0] * workers <= limit:
        clock.now, number, samples = heapq.heappop(queue)
        trial = engine.book.trials[number]
        loss = curves.loss(trial.config, samples / trial.full_samples)
        step = samples // trial.config["batch_size"]
        said = {"samples": samples, "step": step, "val_loss": loss}
        if trial.stage == "confirm":
            said |= {"test_loss": loss, "steps_per_second": 1.0}
        if engine.report(number, said):
            work(trial)
        elif trial.state == "complete" and (not trace or loss < trace[-1][1]):
            trace.append((clock.now * workers, loss))
        fill()
    return Played(engine.book, clock.now * workers, tuple(trace))


def next_target(engine: Engine, trial: Trial) -> int:
    """Samples at the next report of a trial: its next rung, or the end."""
    levels = (level for level in engine.rung_levels(trial) if level > trial.samples)
    return min([trial.full_samples, *levels])
