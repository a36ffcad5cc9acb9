"""The rungs of an arm as they stand, kept up to date with each trial that changes.

What Asha says of a trial among its peers, it says by looking at all of them (asha.py): that is the
definition. A ladder gives the same answers from sorted tables, so a decision costs the logarithm
of the trials that are there. Nothing of it is written down: it follows from the trials alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sortedcontainers import SortedDict, SortedList

from search.engine.asha import LEAST_WORTH, MOST_PAIRS, Asha, Verdict, first_holding, products
from search.engine.correlation import Correlation, rank_correlation
from search.engine.pareto import better
from search.engine.scheduler import Hyperband, Scheduler
from search.history.book import CUT, ENDED, Trial

Key = tuple[float, int]  # a value with which a rung was entered, and the trial's number


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
    if isinstance(scheduler, Asha) and not scheduler.results.others:
        found = Ladder(scheduler)
    elif isinstance(scheduler, Hyperband) and not scheduler.brackets[0].results.others:
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


class Seen(NamedTuple):
    """What of a trial a ladder goes by."""

    keys: tuple[Key | None, ...]  # for each rung, with what it was entered
    gone: tuple[bool, ...]  # whether it went on from there
    later: tuple[float | None, ...]  # the value at the next rung, or at the end
    rung: int  # the highest one passed; -1 before the first
    alive: bool


@dataclass
class Rung:
    """The trials that entered a rung."""

    entered: SortedList = field(default_factory=SortedList)  # keys, the best first
    waiting: SortedList = field(default_factory=SortedList)  # of them, alive and not gone on
    gone: int = 0  # of them, that went on
    pairs: SortedDict = field(default_factory=SortedDict)  # number -> (value, later value)
    measured_to: int = -1  # the number up to which the correlation was measured; -1: all
    link: Correlation | None = None
    stale: bool = True  # the correlation has to be measured again


class Ladder:
    """Asha's rungs, of one objective, as they stand."""

    def __init__(self, rule: Asha) -> None:
        self.rule = rule
        self.rungs = [Rung() for _ in rule.rungs]
        self.seen: dict[int, Seen] = {}
        self.trials: dict[int, Trial] = {}
        self.alive_at = [0] * (len(rule.rungs) + 1)  # trials alive whose highest rung is so high

    def update(self, trial: Trial) -> None:
        before, now = self.seen.get(trial.number), self._look(trial)
        if now == before:
            return
        self.seen[trial.number], self.trials[trial.number] = now, trial
        if before is not None and before.alive:
            self.alive_at[before.rung + 1] -= 1
        if now.alive:
            self.alive_at[now.rung + 1] += 1
        for index, rung in enumerate(self.rungs):
            self._update(rung, trial.number, index, before, now)

    def judge(self, trial: Trial) -> Verdict:
        seen = self.seen[trial.number]
        if seen.rung < 0 or trial.reports[-1]["samples"] != self.rule._entry(trial, seen.rung):
            return "go"  # between rungs
        key = seen.keys[seen.rung]
        if key is None:
            return "pause"
        rung, best = self.rungs[seen.rung], self._best(seen.rung)
        among = key in rung.waiting and rung.waiting.bisect_left(key) < best
        return "promote" if among else "pause"

    def promotable(self) -> Trial | None:
        for index in reversed(range(len(self.rungs))):
            rung = self.rungs[index]
            if not rung.waiting:
                continue
            for _, number in rung.waiting[: self._best(index)]:
                trial = self.trials[number]
                if trial.state == "paused" and self.seen[number].rung == index:
                    return trial
        return None

    def hopeless(self, to_come: int) -> list[Trial]:
        if to_come >= (self.rule.reduction_factor - 1) * len(self.seen):
            return []  # there will be a place for each of them
        lost, worth, arriving = list[Trial](), self.worth(), to_come
        for index, rung in enumerate(self.rungs):
            arriving += self.alive_at[index]
            if self.rule.measured and (worth[index] or 0.0) < LEAST_WORTH:
                continue  # not known to hold: it may be found to mislead, and let them go on
            places = (len(rung.entered) + arriving) // self.rule.reduction_factor
            for key in self._behind(rung, places):
                trial = self.trials[key[1]]
                if trial.state == "paused" and self.seen[key[1]].rung == index:
                    lost.append(trial)
        return lost

    def worth(self) -> list[float | None]:
        """The rank correlation of each rung with the end, as `Asha.worth` has it."""
        if not self.rule.measured:
            return [None] * len(self.rungs)
        return products([self._link(rung) for rung in self.rungs])

    def _best(self, index: int) -> int:
        """How many of those that wait at a rung, from the best on, may go on."""
        rung = self.rungs[index]
        if len(rung.entered) < self.rule.min_results:
            return 0
        factor = self.rule.reduction_factor if index >= first_holding(self.worth()) else 1
        places = len(rung.entered) // factor
        if not places or not rung.waiting:
            return 0
        inside: int = rung.waiting.bisect_right(rung.entered[places - 1])
        leads = rung.waiting[0] == rung.entered[0]
        return min(inside, max(places - rung.gone, int(leads)))

    def _behind(self, rung: Rung, places: int) -> Iterator[Key]:
        """Those that wait and have no place among so many, the worst first."""
        for key in reversed(rung.waiting):
            if rung.entered.bisect_left(key) < places:
                return
            yield key

    def _look(self, trial: Trial) -> Seen:
        rule, levels = self.rule, self.rule.rungs
        values = [rule.results.at(trial, levels, index) for index in range(len(levels))]
        keys = tuple(None if value is None else (value, trial.number) for value in values)
        gone = tuple(rule._went_on(trial, index) for index in range(len(levels)))
        later = tuple(rule._next_value(trial, index) for index in range(len(levels)))
        highest = rule._rung_of(trial)
        rung = -1 if highest is None else highest
        return Seen(keys, gone, later, rung, trial.state not in ENDED or trial.state == CUT)

    def _update(self, rung: Rung, number: int, index: int, before: Seen | None, now: Seen) -> None:
        old, new = before and before.keys[index], now.keys[index]
        if old != new:
            if old is not None:
                rung.entered.remove(old)
            if new is not None:
                rung.entered.add(new)
        waited = old is not None and before is not None and before.alive and not before.gone[index]
        waits = new is not None and now.alive and not now.gone[index]
        if waited and (not waits or old != new):
            rung.waiting.remove(old)
        if waits and (not waited or old != new):
            rung.waiting.add(new)
        rung.gone -= old is not None and before is not None and before.gone[index]
        rung.gone += new is not None and now.gone[index]
        pair = None if new is None else (new[0], now.later[index])
        if pair is not None and rung.pairs.get(number) != pair:
            rung.pairs[number] = pair
            rung.stale |= rung.measured_to < 0 or number <= rung.measured_to

    def _link(self, rung: Rung) -> Correlation | None:
        """How ranks at a rung agree with those that follow, measured on the first pairs alone."""
        if rung.stale:
            earlier, later, pairs = list[float](), list[float | None](), 0
            rung.measured_to = -1
            for number, (value, following) in rung.pairs.items():
                earlier.append(value)
                later.append(following)
                pairs += following is not None
                if pairs == MOST_PAIRS:
                    rung.measured_to = number
                    break
            rung.link = rank_correlation(tuple(earlier), tuple(later))
            rung.stale = False
        return rung.link


class Held:
    """The paused trials of each optimizer, those that got furthest first, then the best."""

    def __init__(self, metric: str, mode: str) -> None:
        self.metric, self.ranked = metric, better(mode)
        self.keys: dict[int, tuple[int, float, int]] = {}
        self.of: dict[str, SortedList] = {}
        self.trials: dict[int, Trial] = {}

    def update(self, trial: Trial) -> None:
        held = self.of.setdefault(trial.optimizer, SortedList())
        if (old := self.keys.pop(trial.number, None)) is not None:
            held.remove(old)
        value = trial.last(self.metric)
        if trial.state == "paused" and value is not None:
            key = -trial.samples, self.ranked(value), trial.number
            self.keys[trial.number], self.trials[trial.number] = key, trial
            held.add(key)

    def best(self, optimizer: str) -> Trial | None:
        """The one to finish, if an optimizer has none that is complete."""
        held = self.of.get(optimizer)
        return self.trials[held[0][2]] if held else None
