"""Asynchronous successive halving: a rung rule as a function of the results alone."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from search.engine.correlation import Correlation, chained, rank_correlation
from search.engine.pareto import Aims, Fronts, Point, signed
from search.history.book import CUT, ENDED, Trial
from search.spec.spec import SchedulerConfig

AT_THE_END = "quality_"  # metrics that a trial has only when it is complete
AGREED = 5  # leading bits of the number of trials at a rung, of which its fronts are made
MOST_PAIRS = 512  # that a rank correlation is measured on: it then varies by 0.02
LEAST_WORTH = 0.7  # rank correlation with the end that gives a rung the right to hold trials back

# go: not at a rung. promote: on from this one. A paused trial may be promoted later, a stopped
# one not.
Verdict = Literal["go", "promote", "pause", "stop"]


class Entry(NamedTuple):
    """A trial as it entered a rung."""

    came: int  # how many reports the search had had before
    point: Point  # its objectives
    number: int


@dataclass(frozen=True)
class Results:
    """Reads the objective from trials. Smaller is better here, whatever the mode."""

    metric: str
    mode: str
    others: tuple[tuple[str, str], ...] = ()  # further objectives, with their modes

    @cached_property
    def aims(self) -> Aims:
        """What is known before the end of a trial."""
        known = (aim for aim in self.others if not aim[0].startswith(AT_THE_END))
        return (self.metric, self.mode), *known

    def at(self, trial: Trial, levels: Sequence[int], index: int) -> float | None:
        """The value with which a trial entered a rung."""
        entered = self.entry(trial, levels, index)
        return None if entered is None else entered.point[0]

    def entry(self, trial: Trial, levels: Sequence[int], index: int) -> Entry | None:
        """A trial as it entered a rung: with its first report there.

        A report beyond the next rung is none of this rung: late losses don't compare with early.
        """
        above = levels[index + 1] if index + 1 < len(levels) else math.inf
        for report, came in zip(trial.reports, trial.came, strict=True):
            if report["samples"] >= levels[index]:
                if report["samples"] >= above or self.value(report) is None:
                    return None
                return Entry(came, signed(report, self.aims), trial.number)
        return None

    def order(self, entered: Iterable[Entry]) -> list[int]:
        """The numbers of trials that entered a rung, the best first.

        With several objectives these are fronts, one behind the other (as MO-ASHA has them,
        Schmucker et al. 2021). A trial more can move all fronts, so they are not made anew for
        each: but of the first to come, `agreed` of all, among whose fronts the latest are placed.
        """
        coming = sorted(entered)
        several = len(self.aims) > 1
        fronts = Fronts(e.point for e in coming[: agreed(len(coming))] if several)
        ranking = sorted(coming, key=lambda e: (fronts.place(e.point), e.point, e.number))
        return [e.number for e in ranking]

    def value(self, report: dict[str, Any]) -> float | None:
        """The objective of a report, signed so that smaller is better; None if it has none.

        What is infinite is as bad as can be, also where more is better.
        """
        value = report.get(self.metric)
        return None if value is None or math.isnan(value) else signed(report, self.aims)[0]


def agreed(count: int) -> int:
    """How many of the trials at a rung its fronts are made of: all but the last 6 % at most."""
    left = max(0, count.bit_length() - AGREED)
    return count >> left << left


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

    Where `measured`, a rung decides as long as its ranks tell those at the end, as far as is
    known (`worth`). Once they are seen not to, all that wait at it and below may go on.
    """

    rungs: tuple[int, ...]  # samples, ascending, below the full budget
    reduction_factor: int
    results: Results
    measured: bool = False  # rungs whose ranks are seen to mislead hold nobody back
    min_results: int = 1  # at a rung, before it lets anyone go on

    def levels(self, trial: Trial) -> tuple[int, ...]:
        return self.rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        index = self.rung_of(trial)
        if index is None or trial.reports[-1]["samples"] != self.entered_at(trial, index):
            return "go"  # between rungs
        best = self.best(index, peers, self.first_deciding(peers))
        return "promote" if trial.number in best else "pause"

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        paused = {trial.number: trial for trial in peers if trial.state == "paused"}
        if not paused:
            return None
        first = self.first_deciding(peers)
        for index in reversed(range(len(self.rungs))):
            for number in self.best(index, peers, first):
                if number in paused and self.rung_of(paused[number]) == index:
                    return paused[number]
        return None

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        if to_come >= (self.reduction_factor - 1) * len(peers):
            return []  # there will be a place for each of them
        if self.results.others:
            return []  # a new trial can bring another front forward, so none can be given up
        lost, worth = [], self.worth(peers)
        for index in range(len(self.rungs)):
            if self.measured and (worth[index] or 0.0) < LEAST_WORTH:
                continue  # not known to hold: it may be found to mislead, and let them go on
            ranking = self.ranking(index, peers)
            arriving = to_come + sum(
                trial.state in ("pending", "running", "paused", CUT)
                and (rung := self.rung_of(trial), rung is None or rung < index)[1]
                for trial in peers
            )
            places = (len(ranking) + arriving) // self.reduction_factor
            lost += [
                trial
                for trial in peers
                if trial.state == "paused"
                and self.rung_of(trial) == index
                and ranking.index(trial.number) >= places
            ]
        return lost

    def links(self, peers: Sequence[Trial]) -> list[Correlation | None]:
        """How the ranks at each rung agree with those at the next, or at the end.

        Measured on the first MOST_PAIRS trials that went on, in the order of their numbers, and
        on those beside them that did not: more would tell no more.
        """
        found = []
        for index in range(len(self.rungs)):
            earlier, later, pairs = list[float](), list[float | None](), 0
            for trial in sorted(peers, key=lambda trial: trial.number):
                if (value := self.results.at(trial, self.rungs, index)) is not None:
                    earlier.append(value)
                    later.append(self.next_value(trial, index))
                    pairs += later[-1] is not None
                    if pairs == MOST_PAIRS:
                        break
            found.append(rank_correlation(tuple(earlier), tuple(later)))
        return found

    def worth(self, peers: Sequence[Trial]) -> list[float | None]:
        """The rank correlation of each rung with the end, where it is known."""
        return chained(self.links(peers)) if self.measured else [None] * len(self.rungs)

    def first_deciding(self, peers: Sequence[Trial]) -> int:
        """The index of the lowest rung that holds trials back: all above hold theirs too."""
        return first_holding(self.worth(peers))

    def next_value(self, trial: Trial, index: int) -> float | None:
        """The value with which a trial entered the rung after this one, or ended."""
        if index + 1 < len(self.rungs):
            return self.results.at(trial, self.rungs, index + 1)
        return self.results.value(trial.reports[-1]) if trial.state == "complete" else None

    def best(self, index: int, peers: Sequence[Trial], first_deciding: int) -> list[int]:
        """The trials that may go on from a rung, the best first."""
        ranking = self.ranking(index, peers)
        if len(ranking) < self.min_results:
            return []
        factor = self.reduction_factor if index >= first_deciding else 1
        places = len(ranking) // factor
        gone = {trial.number for trial in peers if self.went_on(trial, index)}
        free = places - len(gone.intersection(ranking))
        alive = {trial.number for trial in peers if trial.state not in ENDED}
        waiting = [n for n in ranking[:places] if n in alive and n not in gone]
        leads = waiting[:1] == ranking[:1]
        return waiting[: max(free, int(leads))]

    def went_on(self, trial: Trial, index: int) -> bool:
        """Whether a trial has left a rung behind, or was told to go on from it."""
        if trial.samples < self.rungs[index]:
            return False
        entry = self.entered_at(trial, index)
        return trial.samples > entry or trial.promoted == entry

    def ranking(self, index: int, peers: Iterable[Trial]) -> list[int]:
        """The trials that entered a rung, the best first."""
        entries = (self.results.entry(trial, self.rungs, index) for trial in peers)
        return self.results.order(entry for entry in entries if entry is not None)

    def rung_of(self, trial: Trial) -> int | None:
        """The highest rung that a trial has entered."""
        passed = bisect_right(self.rungs, trial.samples)
        return passed - 1 if passed else None

    def entered_at(self, trial: Trial, index: int) -> int:
        """The samples with which a trial entered a rung."""
        level = self.rungs[index]
        return next(int(r["samples"]) for r in trial.reports if r["samples"] >= level)


def first_holding(worth: Sequence[float | None]) -> int:
    """The index of the lowest rung above all that are seen to mislead."""
    misleading = [i for i, value in enumerate(worth) if value is not None and value < LEAST_WORTH]
    return misleading[-1] + 1 if misleading else 0


def asha(config: SchedulerConfig, rungs: tuple[int, ...], results: Results) -> Asha:
    """As a spec asks for it: with grace `auto` its rungs are measured."""
    measured, least = config.grace_steps == "auto", config.min_results or 1
    return Asha(rungs, config.reduction_factor, results, measured, min_results=least)
