"""Decides which trial comes next and whether one goes on, and writes each decision down first.

It knows neither Ray nor the clock of the machine, so a replay runs the same decisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import SearchFailed
from search.history import ENDED, History, Trial
from search.sampler import Sampler
from search.scheduler import Rungs, build_rungs
from search.space import baselines, settings
from search.spec import SearchSpec

QUOTA = 4  # trials that adaptive allocation gives each optimizer before the sampler decides


@dataclass
class Arm:
    """Optimizers that compete for the same trials: all of them, or with `equal` one alone."""

    names: list[str]
    sampler: Sampler
    rungs: Rungs


class Engine:
    """The decisions of one search.

    Built on a history that already has events, it stands where the driver that wrote them stood.
    """

    def __init__(self, spec: SearchSpec, history: History, journal: Path | None = None) -> None:
        self.spec, self.history, self.book = spec, history, history.book
        self.metric = spec.objective.metric
        if journal is not None:
            journal.unlink(missing_ok=True)  # a view, made anew
        groups = [[name] for name in spec.optimizers]
        self.arms = [
            self._arm(names, journal)
            for names in (groups if spec.allocation == "equal" else [spec.optimizers])
        ]
        self.waiting: list[Trial] = []  # cut off before; they go on first
        for trial in self.book.trials.values():
            self._relive(trial)
        self.baselines = baselines(spec.space, spec.trial, spec.baselines)
        self.stopping: str | None = None  # why no new trials are begun
        self.error: SearchFailed | None = None  # the search can't go on

    def next(self) -> Trial | None:
        """The trial to run next; None when there is none to begin."""
        if self.waiting:
            return self.waiting.pop(0)
        asked = len(self.book.stage("search"))
        self.stopping = self.stopping or self._budget_reached(asked)
        if self.stopping:
            return None
        if asked < len(self.baselines):
            chosen = self.baselines[asked]
            trial = self._write(asked, chosen, baseline=True)
            self._arm_of(trial).sampler.add(trial)
            return trial
        if (turn := self._turn()) is None:
            self.stopping = "each optimizer has had its share of the trials"
            return None
        arm, optimizer = turn
        return self._write(asked, arm.sampler.ask(asked, optimizer), baseline=False)

    def begin(self, number: int) -> None:
        """A trial's process has started, perhaps again."""
        if self.book.trials[number].state != "running":
            self.history.write("begin", trial=number)

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
        if metrics["samples"] < trial.samples:
            return True
        arm, value = self._arm_of(trial), metrics[self.metric]
        if metrics["samples"] > trial.samples:
            finite = {k: v for k, v in metrics.items() if not _is_bad(v)}
            self.history.write("report", trial=number, metrics=finite)
            if not _is_bad(value):
                arm.sampler.report(number, metrics["samples"], value)
        if metrics.get("diverged_at") is not None or _is_bad(value):
            return self.end(number, "diverged", f"not finite at step {metrics['diverged_at']}")
        if trial.samples >= trial.config["steps"] * trial.config["batch_size"]:
            return self.end(number, "complete", None)
        before = trial.reports[-2]["samples"] if len(trial.reports) > 1 else 0
        keep = arm.rungs.report(number, before, trial.samples, value)
        if not keep and not self._always_full(trial):
            return self.end(number, "pruned", f"stopped at {trial.samples} samples")
        if self.stopping == "wall_clock":
            return self.end(number, "paused", "the budget of time was spent")
        return True

    def end(self, number: int, state: str, why: str | None) -> bool:
        """Write how a trial ended, and tell the sampler. False: it does not go on."""
        trial = self.book.trials[number]
        self.history.write("end", trial=number, state=state, why=why)
        value = trial.last(self.metric)
        self._arm_of(trial).sampler.tell(number, state, trial.samples, value)
        return False

    def rung_levels(self, trial: Trial) -> list[int]:
        """Samples at which this trial has to report."""
        return list(self._arm_of(trial).rungs.levels)

    def _arm(self, names: list[str], journal: Path | None) -> Arm:
        spec, own = self.spec, self.spec.allocation == "equal"
        study = f"{self.book.id}/{names[0]}" if own else self.book.id
        sampler = Sampler(
            spec.space,
            names,
            spec.sampler.type,
            spec.sampler.seed,
            spec.objective.mode,
            study,
            journal,
        )
        return Arm(names, sampler, build_rungs(spec))

    def _arm_of(self, trial: Trial) -> Arm:
        return next(arm for arm in self.arms if trial.optimizer in arm.names)

    def _relive(self, trial: Trial) -> None:
        """Tell sampler and rungs about a trial of the history."""
        arm, before = self._arm_of(trial), 0
        arm.sampler.add(trial)
        for metrics in trial.reports:
            if self.metric in metrics:
                arm.sampler.report(trial.number, metrics["samples"], metrics[self.metric])
                arm.rungs.report(trial.number, before, metrics["samples"], metrics[self.metric])
            before = metrics["samples"]
        if trial.state in ENDED:
            value = trial.last(self.metric)
            arm.sampler.tell(trial.number, trial.state, trial.samples, value)
        else:
            self.waiting.append(trial)

    def _turn(self) -> tuple[Arm, str | None] | None:
        """Whose turn it is: the arm, and an optimizer if the sampler is not to choose it."""
        asked = [trial.optimizer for trial in self.book.stage("search")]
        names = self.spec.optimizers
        share = self.spec.budget.trials // len(names)
        fewest = min(names, key=asked.count)
        if self.spec.allocation == "equal":
            arm = next(arm for arm in self.arms if fewest in arm.names)
            return (arm, fewest) if asked.count(fewest) < share else None
        return self.arms[0], fewest if asked.count(fewest) < min(QUOTA, share) else None

    def _budget_reached(self, asked: int) -> str | None:
        budget = self.spec.budget
        if asked >= budget.trials:
            return "trials"
        if budget.wall_clock is not None and self.book.seconds >= budget.wall_clock:
            return "wall_clock"
        return None

    def _always_full(self, trial: Trial) -> bool:
        """The first baseline, the "before" of every comparison, is never stopped early."""
        return trial.baseline and trial.number == 0

    def _write(self, number: int, chosen: dict[str, Any], baseline: bool) -> Trial:
        spec = self.spec
        config = spec.trial.resolve(**settings(chosen), threads=threads(spec), code=spec.code)
        self.history.write(
            "ask",
            trial=number,
            stage="search",
            chosen=chosen,
            config=config.model_dump(mode="json"),
            baseline=baseline,
        )
        return self.book.trials[number]


def threads(spec: SearchSpec) -> int:
    """CPU threads of a trial: its whole cores, at least one."""
    return max(1, int(spec.resources.cpu))


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
