"""Which trials go on: rung rules as functions of the results alone, on the samples clock.

Nothing is remembered here: a decision is made from the trials as the history tells them, so it is
the same after a restart, in a replay, and when somebody reads the record.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search.engine.asha import Asha, Results, Verdict
from search.history.book import Trial
from search.spec.shelves import SCHEDULERS
from search.spec.spec import SchedulerConfig, SearchSpec
from trainable.base.shelf import load

FEWEST = 3  # other trials that a median is taken of, unless the spec says otherwise


class Scheduler(Protocol):
    """Judges trials among their peers: all trials of the search that compete with them."""

    def levels(self, trial: Trial) -> tuple[int, ...]:
        """Samples at which a trial has to report, ascending."""
        ...

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        """What becomes of a trial after its last report."""
        ...

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        """The paused trial that has most earned to go on, if one has."""
        ...

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        """Paused trials that can't be promoted whatever the `to_come` further trials report."""
        ...


def build_scheduler(spec: SearchSpec) -> Scheduler:
    """The scheduler that a spec asks for."""
    results = Results(*spec.aims[0], others=tuple(spec.aims[1:]))
    build = load(SCHEDULERS[spec.scheduler.type].target)
    scheduler: Scheduler = build(spec.scheduler, rung_levels(spec), results)
    return scheduler


def without(config: SchedulerConfig, rungs: tuple[int, ...], results: Results) -> Scheduler:
    """None: a rule without rungs, by which every trial runs in full."""
    return Asha((), config.reduction_factor, results)


@dataclass(frozen=True)
class Median:
    """The median stopping rule (Golovin et al. 2017, section 3.2.2), looked at on rungs.

    A trial is stopped for good if its best value so far is worse than the median, over the other
    trials that got as far, of their means up to there.
    """

    rungs: tuple[int, ...]
    min_results: int
    results: Results

    def levels(self, trial: Trial) -> tuple[int, ...]:
        return self.rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        if not self.rungs or trial.samples < self.rungs[0]:
            return "go"
        others = [
            self._mean(peer, trial.samples)
            for peer in peers
            if peer.number != trial.number and peer.samples >= trial.samples
        ]
        means = [mean for mean in others if mean is not None]
        values = [v for report in trial.reports if (v := self.results.value(report)) is not None]
        if len(means) < self.min_results or not values:
            return "go"
        return "stop" if min(values) > statistics.median(means) else "go"

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        return None

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        return []

    def _mean(self, trial: Trial, samples: int) -> float | None:
        values = [
            value
            for report in trial.reports
            if report["samples"] <= samples and (value := self.results.value(report)) is not None
        ]
        return sum(values) / len(values) if values else None


def median(config: SchedulerConfig, rungs: tuple[int, ...], results: Results) -> Median:
    """As a spec asks for it."""
    return Median(rungs, config.min_results or FEWEST, results)


@dataclass(frozen=True)
class Hyperband:
    """Brackets of successive halving with growing grace (Li et al. 2018), dealt out in turn.

    Each optimizer's trials have their own turns, or some would always be given little grace.

    A hedge for when early results mislead: the last bracket never stops a trial early.
    """

    brackets: tuple[Asha, ...]

    def levels(self, trial: Trial) -> tuple[int, ...]:
        return self._of(trial).rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        return self._of(trial).judge(trial, self._same(trial.turn, peers))

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        found = (
            bracket.promotable(self._same(number, peers))
            for number, bracket in enumerate(self.brackets)
        )
        return next((trial for trial in found if trial), None)

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        return [
            trial
            for number, bracket in enumerate(self.brackets)
            for trial in bracket.hopeless(self._same(number, peers), to_come)
        ]

    def _of(self, trial: Trial) -> Asha:
        return self.brackets[trial.turn % len(self.brackets)]

    def _same(self, turn: int, peers: Sequence[Trial]) -> list[Trial]:
        count = len(self.brackets)
        return [trial for trial in peers if trial.turn % count == turn % count]


def hyperband(config: SchedulerConfig, rungs: tuple[int, ...], results: Results) -> Hyperband:
    """As a spec asks for it: a bracket that begins at each rung, and one without any."""
    factor, least = config.reduction_factor, config.min_results or 1
    starts = range(len(rungs) + 1)
    return Hyperband(tuple(Asha(rungs[s:], factor, results, min_results=least) for s in starts))


def rung_levels(spec: SearchSpec) -> tuple[int, ...]:
    """Samples at each rung: grace x reduction_factor^k below the full budget.

    Where a scheduler measures what ranks are worth (ASHA with grace `auto`), the first is at a
    sixteenth of the budget; else at an eighth. It comes after the warmup, and where warmups
    differ after twice the longest: before that, losses rank warmups, not settings.
    """
    config, trial = spec.scheduler, spec.trial
    entry = SCHEDULERS[config.type]
    if not entry.rungs:
        return ()
    longest = spec.space.largest_warmup(trial.steps, trial.batch_size)
    if isinstance(config.grace_steps, int):
        grace = config.grace_steps
    elif config.grace_steps == "auto" and entry.measures:
        grace = max(longest * (2 if spec.space.warmup_differs() else 1), trial.steps // 16, 1)
    else:
        grace = max(2 * longest, trial.steps // 8, 1)
    levels = []
    while grace < trial.steps:
        levels.append(grace * trial.batch_size)
        grace *= config.reduction_factor
    return tuple(levels)
