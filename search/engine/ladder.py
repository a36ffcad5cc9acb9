"""The rungs of an arm as they stand, kept up to date with each trial that changes.

What Asha says of a trial among its peers, it says by looking at all of them (asha.py): that is the
definition. A ladder gives the same answers from sorted tables, so a decision costs the logarithm
of the trials that are there. Nothing of it is written down: it follows from the trials alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sortedcontainers import SortedDict, SortedList

from search.engine.asha import (
    LEAST_WORTH,
    MOST_PAIRS,
    Asha,
    Entry,
    Verdict,
    agreed,
    first_holding,
)
from search.engine.correlation import Correlation, chained, rank_correlation
from search.engine.pareto import Fronts, Point, better
from search.engine.scheduler import Hyperband, Scheduler
from search.history.book import ENDED, Group, Trial

Key = tuple[int, Point, int]  # the front at a rung, the objectives, and the trial's number


class Standings(Protocol):
    """A scheduler among the trials of one arm."""

    def update(self, trial: Trial) -> None:
        """A trial has begun, reported, gone on or ended."""

    def judge(self, trial: Trial) -> Verdict:
        """What becomes of a trial after its last report."""

    def promotable(self) -> Trial | None:
        """The paused trial that has most earned to go on, if one has."""

    def hopeless(self, to_come: int) -> list[Trial]:
        """Paused trials that can't be promoted whatever the `to_come` further trials report."""


def standings(scheduler: Scheduler, peers: Sequence[Trial]) -> Standings:
    """The standings of an arm whose trials are `peers`, a list that grows with it."""
    found: Standings = Plain(scheduler, peers)
    if isinstance(scheduler, Asha):
        found = Ladder(scheduler)
    elif isinstance(scheduler, Hyperband):
        found = Dealt([Ladder(bracket) for bracket in scheduler.brackets])
    for trial in peers:
        found.update(trial)
    return found


@dataclass
class Plain:
    """Any scheduler, asked as it is: with all trials, each time."""

    scheduler: Scheduler
    peers: Sequence[Trial]

    def update(self, trial: Trial) -> None:
        """Nothing is kept."""

    def judge(self, trial: Trial) -> Verdict:
        return self.scheduler.judge(trial, self.peers)

    def promotable(self) -> Trial | None:
        return self.scheduler.promotable(self.peers)

    def hopeless(self, to_come: int) -> list[Trial]:
        return self.scheduler.hopeless(self.peers, to_come)


@dataclass
class Dealt:
    """Hyperband: a ladder for each bracket, dealt out in turn."""

    ladders: list[Ladder]

    def update(self, trial: Trial) -> None:
        self._of(trial).update(trial)

    def judge(self, trial: Trial) -> Verdict:
        return self._of(trial).judge(trial)

    def promotable(self) -> Trial | None:
        return next((found for one in self.ladders if (found := one.promotable())), None)

    def hopeless(self, to_come: int) -> list[Trial]:
        return [trial for one in self.ladders for trial in one.hopeless(to_come)]

    def _of(self, trial: Trial) -> Ladder:
        return self.ladders[trial.turn % len(self.ladders)]


class At(NamedTuple):
    """A trial at a rung."""

    entry: Entry
    gone: bool  # whether it went on from there
    waits: bool  # whether it still can
    later: float | None  # the value at the next rung, or at the end


class Seen(NamedTuple):
    """What of a trial a ladder goes by."""

    trial: Trial
    at: tuple[At | None, ...]  # each rung
    rung: int  # the highest one passed; -1 before the first
    alive: bool


class Rung:
    """The trials that entered a rung."""

    def __init__(self, several: bool) -> None:
        self.several = several  # objectives
        self.coming: list[Entry] = []  # of them
        self.entered = SortedList()  # keys, the best first
        self.waiting = SortedList()  # of them, those that can go on
        self.gone = 0  # of them, that went on
        self.fronts = Fronts(())  # of the first `agreed` of them
        self.agreed = 0
        self.pairs = SortedDict()  # number -> (value, later value)
        self.measured_to = -1  # the number up to which the correlation was measured; -1: all
        self.measured: Correlation | None = None
        self.stale = True  # the correlation has to be measured again

    def key(self, entry: Entry) -> Key:
        """What sorts a trial among the others, for as long as the fronts stay."""
        depth = self.fronts.place(entry.point) if self.several else 0
        return depth, entry.point, entry.number

    def update(self, number: int, before: At | None, now: At | None) -> None:
        if now is None or now == before:
            return
        key = self.key(now.entry)
        if before is None:
            self.entered.add(key)
            if self.several:
                self.coming.append(now.entry)
        waited = before is not None and before.waits
        if now.waits and not waited:
            self.waiting.add(key)
        if waited and not now.waits:
            self.waiting.remove(key)
        self.gone += now.gone - (before is not None and before.gone)
        self.pairs[number] = now.entry.point[0], now.later
        self.stale |= self.measured_to < 0 or number <= self.measured_to

    def settle(self) -> None:
        """Make the fronts of as many as there should be: once for every 3 to 6 % more of them."""
        count = agreed(len(self.coming))
        if count == self.agreed:
            return
        self.agreed, waits = count, {number for _, _, number in self.waiting}
        self.coming.sort()  # after a restart they are not taken in as they came
        self.fronts = Fronts(entry.point for entry in self.coming[:count])
        self.entered = SortedList(map(self.key, self.coming))
        self.waiting = SortedList(key for key in self.entered if key[2] in waits)

    def behind(self, places: int) -> Iterator[int]:
        """The numbers of those that wait and have no place among so many, the worst first."""
        for key in reversed(self.waiting):
            if self.entered.bisect_left(key) < places:
                return
            yield key[2]

    def link(self) -> Correlation | None:
        """How ranks at a rung agree with those that follow, measured on the first pairs alone."""
        if self.stale:
            earlier, later, pairs = list[float](), list[float | None](), 0
            self.measured_to = -1
            for number, (value, following) in self.pairs.items():
                earlier.append(value)
                later.append(following)
                pairs += following is not None
                if pairs == MOST_PAIRS:
                    self.measured_to = number
                    break
            self.measured = rank_correlation(tuple(earlier), tuple(later))
            self.stale = False
        return self.measured


class Ladder:
    """Asha's rungs as they stand."""

    def __init__(self, rule: Asha) -> None:
        self.rule = rule
        self.rungs = [Rung(len(rule.results.aims) > 1) for _ in rule.rungs]
        self.seen: dict[int, Seen] = {}
        self.alive_at = [0] * (len(rule.rungs) + 1)  # trials alive whose highest rung is so high

    def update(self, trial: Trial) -> None:
        before, now = self.seen.get(trial.number), self._look(trial)
        if now == before:
            return
        self.seen[trial.number] = now
        if before is not None and before.alive:
            self.alive_at[before.rung + 1] -= 1
        if now.alive:
            self.alive_at[now.rung + 1] += 1
        for index, rung in enumerate(self.rungs):
            rung.update(trial.number, before and before.at[index], now.at[index])

    def judge(self, trial: Trial) -> Verdict:
        seen = self.seen[trial.number]
        index, at = seen.rung, seen.at[seen.rung] if self.rungs else None
        if index < 0 or trial.samples != self.rule.entered_at(trial, index):
            return "go"  # between rungs
        if at is None or not at.waits:
            return "pause"
        best, rung = self._best(index), self.rungs[index]
        return "promote" if rung.waiting.bisect_left(rung.key(at.entry)) < best else "pause"

    def promotable(self) -> Trial | None:
        for index in reversed(range(len(self.rungs))):
            for _, _, number in self.rungs[index].waiting[: self._best(index)]:
                seen = self.seen[number]
                if seen.trial.state == "paused" and seen.rung == index:
                    return seen.trial
        return None

    def hopeless(self, to_come: int) -> list[Trial]:
        if to_come >= (self.rule.reduction_factor - 1) * len(self.seen):
            return []  # there will be a place for each of them
        if self.rule.results.others:
            return []  # a new trial can bring another front forward, so none can be given up
        lost, worth, arriving = list[Trial](), self.worth(), to_come
        for index, rung in enumerate(self.rungs):
            arriving += self.alive_at[index]
            if self.rule.measured and (worth[index] or 0.0) < LEAST_WORTH:
                continue  # not known to hold: it may be found to mislead, and let them go on
            places = (len(rung.entered) + arriving) // self.rule.reduction_factor
            for number in rung.behind(places):
                seen = self.seen[number]
                if seen.trial.state == "paused" and seen.rung == index:
                    lost.append(seen.trial)
        return lost

    def worth(self) -> list[float | None]:
        """The rank correlation of each rung with the end, as `Asha.worth` has it."""
        if not self.rule.measured:
            return [None] * len(self.rungs)
        return chained([rung.link() for rung in self.rungs])

    def _best(self, index: int) -> int:
        """How many of those that wait at a rung, from the best on, may go on."""
        rung = self.rungs[index]
        if not rung.waiting or len(rung.entered) < self.rule.min_results:
            return 0
        factor = self.rule.reduction_factor if index >= first_holding(self.worth()) else 1
        if not (places := len(rung.entered) // factor):
            return 0
        rung.settle()
        inside: int = rung.waiting.bisect_right(rung.entered[places - 1])
        leads = rung.waiting[0] == rung.entered[0]
        return min(inside, max(places - rung.gone, int(leads)))

    def _look(self, trial: Trial) -> Seen:
        rule, levels = self.rule, self.rule.rungs
        alive = trial.state not in ENDED

        def at(index: int) -> At | None:
            entry = rule.results.entry(trial, levels, index)
            if entry is None:
                return None
            gone = rule.went_on(trial, index)
            return At(entry, gone, alive and not gone, rule.next_value(trial, index))

        highest = rule.rung_of(trial)
        here = tuple(at(index) for index in range(len(levels)))
        return Seen(trial, here, -1 if highest is None else highest, alive)


class Held:
    """The paused trials of each group: those that got furthest first, then the best."""

    def __init__(self, trials: Mapping[int, Trial], metric: str, mode: str) -> None:
        self.trials, self.metric, self.ranked = trials, metric, better(mode)
        self.keys: dict[int, tuple[int, float, int]] = {}
        self.of: dict[Group, SortedList] = {}

    def update(self, trial: Trial) -> None:
        held = self.of.setdefault(trial.group, SortedList())
        if (old := self.keys.pop(trial.number, None)) is not None:
            held.remove(old)
        value = trial.last(self.metric)
        if trial.state == "paused" and value is not None:
            key = -trial.samples, self.ranked(value), trial.number
            self.keys[trial.number] = key
            held.add(key)

    def first(self, group: Group, count: int) -> list[Trial]:
        """Those to finish, if a search of an optimizer has too few that are complete."""
        return [self.trials[key[2]] for key in self.of.get(group, ())[:count]]
