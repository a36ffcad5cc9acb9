"""The decisions of one search: which trial comes next, and whether one goes on.

Each is written down before it is acted on. What it is made of, turns.py says first.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from search.engine.budget import asked
from search.engine.turns import Turns
from search.errors import SearchFailed, StorageAway
from search.history.book import ENDED, Trial
from trainable.base.faults import first_fault
from trainable.config import TrialConfig

logger = logging.getLogger("diffsweep.engine")


@dataclass
class Engine(Turns):
    """The decisions of one search."""

    def begin(self, number: int) -> bool:
        """A trial's process has started, perhaps again. False: it was ended meanwhile."""
        if number in self.active:
            self._write("begin", trial=number)
            self.heard[number] = self.stopwatch()
        return number in self.active

    def lose(self, number: int) -> None:
        """A trial's process is gone, and Tune starts it again."""
        self.heard.pop(number, None)
        if number in self.active:
            self.losses[number] += 1
            self._write("lose", trial=number)

    def give_up(self, number: int) -> None:
        """A trial's process is gone, and Tune does not start it again: not if that was lost while
        it started, however few were lost before. Then it has another turn.
        """
        self.lose(number)
        if self.losses[number] > self.spec.retries:
            lost = f"infrastructure: its process was lost {self.losses[number]} times"
            self.end(number, "failed", lost)
        elif number in self.active:
            self.active.discard(number)
            self.cut.append(number)

    def report(self, number: int, metrics: dict[str, Any]) -> bool:
        """Take in a report and say whether the trial goes on.

        A report that is known already, from before a restart, is not recorded again; the decision
        that belongs to it is made as it would have been.

        Raises:
            SearchFailed: the report lacks what decisions need.
        """
        trial = self.book.trials[number]
        if missing := [key for key in (self.metric, "samples", "step") if key not in metrics]:
            raise SearchFailed(
                f"trial {number} reported no {', '.join(missing)}, only {', '.join(metrics)}"
            )
        if number not in self.active:  # ended meanwhile, from outside
            return False
        self.heard[number] = self.stopwatch()
        if metrics["samples"] < trial.samples:
            return True
        with self._together():
            if metrics["samples"] > trial.samples:
                finite = {k: v for k, v in metrics.items() if not _is_bad(v)}
                self._write("report", trial=number, metrics=finite)
            return self._judge(trial, metrics)

    def ask_to_stop(self, how: str) -> None:
        """The user wants no new trials ("stopped"), or an end at once ("cancelled"), for good."""
        if self.stopping != "cancelled":
            self.stopping = how

    def add(self, chosen: dict[str, Any], request: str | None = None) -> None:
        """A config that the user wants tried: outside the budget of trials, and in full.

        Once per `request`: it may come again where a driver died before it was forgotten. One that
        no trial can be made of is refused with a word, since nobody waits for an answer.
        """
        if request is not None and request in self.book.requests:
            return
        try:
            config = self.spec.resolve(chosen)
        except ValidationError as error:
            why = first_fault(error, TrialConfig)
            logger.warning("%s: add: the config can't be trained: %s", self.book.id, why)
            return
        marks: dict[str, Any] = {"full": True, "added": True, "request": request}
        trial = self._ask(len(self.book.trials), chosen, config=config, **marks)
        self.cut.append(trial.number)

    def kill(self, number: int) -> bool:
        """End one trial for good because the user wants it; whether it had to be ended."""
        trial = self.book.trials.get(number)
        if trial is None or (trial.state in ENDED and not trial.again):
            return False
        self.cut = [other for other in self.cut if other != number]
        self.end(number, "cancelled", "killed by the user")
        return True

    def hung(self) -> list[int]:
        """Running trials without a report for longer than the spec allows."""
        limit, now = self.spec.trial_timeout, self.stopwatch()
        if limit is None:
            return []
        return [number for number, heard in self.heard.items() if now - heard > limit]

    def finish(self) -> None:
        """Write how the search ended. Trials still at work were cut off, and go on at resume.

        It is complete if nothing was left to begin; else something else has ended it.
        """
        cut = [n for n, t in self.book.trials.items() if t.state in ("pending", "running")]
        state = "stopped" if self.stopping in ("stopped", "confirm") else "complete"
        if cut or (state == "complete" and not self.over):
            state = "interrupted"
        if self.stopping == "cancelled":
            state = "cancelled"
        if self.error is not None:
            state = "interrupted" if isinstance(self.error, StorageAway) else "failed"
        with self._together():
            for number in cut:
                how = "cancelled" if state == "cancelled" else "paused"
                self.end(number, how, f"search {state}", again=True)
            if state == "complete" and self.stopping == "trials":
                for trial in self.paused():
                    self.end(trial.number, "pruned", "others were better at its rung")
            self._write("finish", state=state, why=str(self.error or self.stopping or ""))

    def paused(self) -> list[Trial]:
        """Trials that a rung holds back."""
        return [t for t in self.book.stage("search") if t.state == "paused"]

    def rung_levels(self, trial: Trial) -> list[int]:
        """Samples at which this trial has to report."""
        searching = trial.stage == "search"
        return list(self.arms.of(trial).scheduler.levels(trial)) if searching else []

    def _judge(self, trial: Trial, metrics: dict[str, Any]) -> bool:
        number = trial.number
        if metrics.get("diverged_at") is not None or _is_bad(metrics[self.metric]):
            known = metrics.get("diverged_at")
            where = metrics["step"] if known is None else known
            return self.end(number, "diverged", f"not finite at step {where}")
        if trial.samples >= trial.full_samples:
            return self.end(number, "complete", None)
        arm, verdict = self.arms.of(trial), "go"
        if not trial.full and trial.samples != trial.promoted:
            verdict = arm.standings.judge(trial)
        if verdict == "promote":
            self._write("promote", trial=number, full=False)
        if verdict == "pause":
            self.end(number, "paused", f"not among the best at {trial.samples} samples")
            self._prune_hopeless()
            return False
        if verdict == "stop":
            return self.end(number, "pruned", f"worse than the others at {trial.samples} samples")
        spent = self._out_of_time() if trial.stage == "search" else None
        if spent is not None:
            self._run_out_of(spent)
            return self._rest(number, spent)
        return True

    def _prune_hopeless(self) -> None:
        """End the paused trials that can't come back, so that their checkpoints can go."""
        to_come = max(0, self.spec.budget.trials - asked(self.book))
        for arm in self.arms.all:
            for trial in arm.standings.hopeless(to_come):
                if trial not in self.held.first(trial.group, self.finalists):  # to be finished
                    self.end(trial.number, "pruned", "others were better at its rung")


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
