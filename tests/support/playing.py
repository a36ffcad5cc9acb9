"""Books to which anything happens, for what is kept beside them (hypothesis)."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as some

from search.history.book import Book, Trial

RUNGS = (10, 20, 40)
FULL = 80  # samples
LOSSES = some.sampled_from([0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, math.nan, math.inf, None])
SIZES = some.sampled_from([1, 1, 2, 3, None])
ENDS = [
    ("paused", True),  # cut off
    ("pruned", False),
    ("failed", True),
    ("cancelled", False),
    ("diverged", False),
]
ACTIONS = some.one_of(
    some.just(("ask",)),
    some.tuples(
        *(some.just("report"), some.integers(0, 40), some.sampled_from([3, 10, 25])),
        *(LOSSES, SIZES),
    ),
    some.tuples(*(some.just("report"), some.integers(0, 40), some.just(10)), *(LOSSES, SIZES)),
    some.tuples(some.just("pause"), some.integers(0, 40)),
    some.tuples(some.just("pause"), some.integers(0, 40)),
    some.tuples(some.just("end"), some.integers(0, 40), some.sampled_from(ENDS)),
    some.tuples(some.just("promote"), some.integers(0, 40), some.booleans()),
)


class Played:
    """A book to which actions happen in any order."""

    def __init__(self) -> None:
        self.book, self.time = Book(), 0

    def play(self, action: tuple[Any, ...]) -> Trial | None:
        """The trial to which it happened; None where there is none that it could happen to."""
        if action[0] == "ask":
            return self._ask()
        alive = [t for t in self.book.searched if t.state not in ("complete", "diverged")]
        if not alive:
            return None
        trial = alive[action[1] % len(alive)]
        match action:
            case ("report", _, more, loss, size):
                metrics = {"samples": min(trial.samples + more, FULL)}
                if size is not None:
                    metrics |= {"size": size, "speed": self.time % 3}
                if loss is not None:
                    metrics["val_loss"] = loss
                self._event("begin", trial=trial.number)
                self._event("report", trial=trial.number, metrics=metrics)
                if loss is None or not math.isfinite(loss):
                    self._end(trial, "diverged", False)
                elif trial.samples == FULL:
                    self._end(trial, "complete", False)
            case ("pause", _) if self._has_just_entered(trial):
                self._end(trial, "paused", False)
            case ("end", _, (state, again)):
                self._end(trial, state, again)
            case ("promote", _, full):
                self._event("promote", trial=trial.number, full=full)
        return trial

    def _has_just_entered(self, trial: Trial) -> bool:
        """Whether it stands where it entered a rung: only there does a rule pause it."""
        clocks = [report["samples"] for report in trial.reports]
        entries = [next((clock for clock in clocks if clock >= rung), None) for rung in RUNGS]
        return trial.samples in entries and trial.samples != trial.promoted

    def _ask(self) -> Trial:
        number = len(self.book.trials)
        config = {"optimizer": {"type": ("adam", "sgd")[number % 2]}, "steps": FULL}
        about = {"chosen": {}, "config": config | {"batch_size": 1}, "baseline": False}
        self._event("ask", trial=number, stage="search", **about)
        return self.book.trials[number]

    def _end(self, trial: Trial, state: str, again: bool) -> None:
        self._event("end", trial=trial.number, state=state, why=None, again=again)

    def _event(self, event: str, **content: Any) -> None:
        self.time += 1
        self.book.apply({"event": event, "time": self.time} | content)
