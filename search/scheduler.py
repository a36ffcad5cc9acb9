"""Which trials go on: rung rules as functions of the results alone, on the samples clock.

Nothing is remembered here: a decision is made from the trials as the history tells them, so it is
the same after a restart, in a replay, and when somebody reads the record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

from search.history import ENDED, Trial
from search.spec import SearchSpec

# go: not at a rung. promote: on from this one. A paused trial may be promoted later, a stopped
# one not.
Verdict = Literal["go", "promote", "pause", "stop"]


class Scheduler(Protocol):
    """Judges trials among their peers: all trials of the search that compete with them."""

    def levels(self, number: int) -> tuple[int, ...]:
        """Samples at which trial `number` has to report, ascending."""
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


@dataclass(frozen=True)
class Results:
    """Reads the objective from trials. Smaller is better here, whatever the mode."""

    metric: str
    mode: str

    def at(self, trial: Trial, levels: Sequence[int], index: int) -> float | None:
        """The value with which a trial entered a rung: that of its first report there.

        A report beyond the next rung is none of this rung: late losses don't compare with early.
        """
        above = levels[index + 1] if index + 1 < len(levels) else math.inf
        for report in trial.reports:
            if report["samples"] >= levels[index]:
                return self.value(report) if report["samples"] < above else None
        return None

    def value(self, report: dict[str, float]) -> float | None:
        """The objective of a report, signed so that smaller is better; None if it has none."""
        value = report.get(self.metric)
        if value is None or math.isnan(value):
            return None
        return value if self.mode == "min" else -value


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving with promotion (Li et al. 2020, algorithm 2).

    A trial that enters a rung goes on if it is among the best 1 / reduction_factor of all that
    entered it so far, and is paused otherwise. A free slot goes to a paused trial that has come
    to be among the best in the meantime, before a new one is begun. So, unlike where trials are
    only ever stopped, the first to arrive don't run to the end unopposed.

    Of n trials at a rung no more than n / reduction_factor go on, but for new leaders: with a
    sampler that learns, each proposal is among the best when it comes, and by rank alone nearly
    all of them would run in full.
    """

    rungs: tuple[int, ...]  # samples, ascending, below the full budget
    reduction_factor: int
    results: Results

    def levels(self, number: int) -> tuple[int, ...]:
        return self.rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        index = self._rung_of(trial)
        if index is None or trial.reports[-1]["samples"] != self._entry(trial, index):
            return "go"  # between rungs
        return "promote" if trial.number in self._best(index, peers) else "pause"

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        paused = {trial.number: trial for trial in peers if trial.state == "paused"}
        for index in reversed(range(len(self.rungs))):
            for number in self._best(index, peers):
                if number in paused and self._rung_of(paused[number]) == index:
                    return paused[number]
        return None

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        lost = []
        for index in range(len(self.rungs)):
            ranking = self._ranking(index, peers)
            arriving = to_come + sum(
                trial.state in ("pending", "running", "paused")
                and (rung := self._rung_of(trial), rung is None or rung < index)[1]
                for trial in peers
            )
            places = (len(ranking) + arriving) // self.reduction_factor
            lost += [
                trial
                for trial in peers
                if trial.state == "paused"
                and self._rung_of(trial) == index
                and ranking.index(trial.number) >= places
            ]
        return lost

    def _best(self, index: int, peers: Sequence[Trial]) -> list[int]:
        """The trials that may go on from a rung, the best first."""
        ranking = self._ranking(index, peers)
        places = len(ranking) // self.reduction_factor
        gone = {trial.number for trial in peers if self._went_on(trial, index)}
        free = places - len(gone.intersection(ranking))
        alive = {trial.number for trial in peers if trial.state not in ENDED}
        waiting = [n for n in ranking[:places] if n in alive and n not in gone]
        leads = waiting[:1] == ranking[:1]
        return waiting[: max(free, int(leads))]

    def _went_on(self, trial: Trial, index: int) -> bool:
        """Whether a trial has left a rung behind, or was told to go on from it."""
        if trial.samples < self.rungs[index]:
            return False
        entry = self._entry(trial, index)
        return trial.samples > entry or trial.promoted == entry

    def _ranking(self, index: int, peers: Iterable[Trial]) -> list[int]:
        entered = [
            (value, trial.number)
            for trial in peers
            if (value := self.results.at(trial, self.rungs, index)) is not None
        ]
        return [number for _, number in sorted(entered)]

    def _rung_of(self, trial: Trial) -> int | None:
        """The highest rung that a trial has entered."""
        passed = [i for i, level in enumerate(self.rungs) if level <= trial.samples]
        return passed[-1] if passed else None

    def _entry(self, trial: Trial, index: int) -> int:
        level = self.rungs[index]
        return next(int(r["samples"]) for r in trial.reports if r["samples"] >= level)


@dataclass(frozen=True)
class Hyperband:
    """Brackets of successive halving with growing grace (Li et al. 2018), dealt out in turn.

    A hedge for when early results mislead: the last bracket never stops a trial early.
    """

    brackets: tuple[Asha, ...]

    def levels(self, number: int) -> tuple[int, ...]:
        return self._of(number).rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        return self._of(trial.number).judge(trial, self._same(trial.number, peers))

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

    def _of(self, number: int) -> Asha:
        return self.brackets[number % len(self.brackets)]

    def _same(self, number: int, peers: Sequence[Trial]) -> list[Trial]:
        count = len(self.brackets)
        return [trial for trial in peers if trial.number % count == number % count]


@dataclass(frozen=True)
class Median:
    """The median stopping rule (Golovin et al. 2017, section 3.2.2), looked at on rungs.

    A trial is stopped for good if its best value so far is worse than the median, over the other
    trials that got as far, of their means up to there.
    """

    rungs: tuple[int, ...]
    min_results: int
    results: Results

    def levels(self, number: int) -> tuple[int, ...]:
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
        return "stop" if min(values) > median(means) else "go"

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


def build_scheduler(spec: SearchSpec) -> Scheduler:
    """The scheduler that a spec asks for; `none` is one without rungs."""
    config = spec.scheduler
    results = Results(spec.objective.metric, spec.objective.mode)
    rungs = rung_levels(spec)
    if config.type == "median":
        return Median(rungs, config.min_results, results)
    if config.type == "hyperband":
        starts = range(len(rungs) + 1)
        return Hyperband(
            tuple(Asha(rungs[start:], config.reduction_factor, results) for start in starts)
        )
    return Asha(() if config.type == "none" else rungs, config.reduction_factor, results)


def rung_levels(spec: SearchSpec) -> tuple[int, ...]:
    """Samples at each rung: grace x reduction_factor^k below the full budget.

    Unless given, grace is an eighth of the budget, and at least twice the longest warmup: before
    that, losses rank warmups, not settings.
    """
    config, trial = spec.scheduler, spec.trial
    longest = spec.space.largest_warmup(trial.steps)
    grace = config.grace_steps or max(2 * longest, trial.steps // 8, 1)
    levels = []
    while grace < trial.steps:
        levels.append(grace * trial.batch_size)
        grace *= config.reduction_factor
    return tuple(levels)
