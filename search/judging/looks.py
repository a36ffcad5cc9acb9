"""When the seeds of a confirmation are looked at, and what is known after each look.

Looking again at more seeds is another chance to claim something false. So each look has a part of
the error rate of its own, and all together spend no more than it (Kim & DeMets 1987).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from search.judging.comparing import ERROR_RATE, MARGIN, Verdict, Word, compare, regrets_of
from search.judging.power import chance, further_seeds

AUTO = "auto"
AUTO_SEEDS = (3, 5, 8, 12)  # at which `auto` looks
PLANNED = 0.04  # of the error rate for the looks that were planned; the rest is for those by hand
HOPE = 0.2  # chance of a decision at the last look: with less, more seeds are not spent
HOPE_SEEDS = 5  # with fewer, differences are too uncertain to give up hope
SPENT_LATE = 1.5  # power of the share of seeds: early looks spend little


def looks_of(plans: Sequence[int | str]) -> dict[int, float]:
    """The error rate of each look, by its number of seeds.

    `plans` are what was asked for, one after another: the first was planned, and each later one
    that adds seeds spends half of what is left.
    """
    first, *later = plans
    looks = {first: PLANNED} if isinstance(first, int) else spread(AUTO_SEEDS)
    for plan in later:
        wanted = plan if isinstance(plan, int) else AUTO_SEEDS[-1]
        if wanted > max(looks):
            looks[wanted] = (ERROR_RATE - sum(looks.values())) / 2
    return looks


def spread(seeds: Sequence[int]) -> dict[int, float]:
    spent = [PLANNED * (n / seeds[-1]) ** SPENT_LATE for n in (0, *seeds)]
    return {n: spent[i + 1] - spent[i] for i, n in enumerate(seeds)}


@dataclass
class Judged:
    """What is known after the looks so far."""

    names: list[str]  # contenders, the best first
    verdicts: list[Verdict]  # of all pairs, those with the best first
    within: float  # the best is worse than any other by no more than this
    good: set[str]  # seen to be as good as the best
    beaten: set[str]  # seen to be worse than another
    seeds: int  # of the last look
    next_rate: float  # of the look after it
    overlap: float  # of the splits of the seeds

    @property
    def best(self) -> str:
        return self.names[0]

    @property
    def undecided(self) -> list[str]:
        return [n for n in self.names[1:] if n not in self.good | self.beaten]

    def seeds_needed(self) -> dict[str, int | None]:
        """How many seeds more would decide about each that is undecided; None: too many."""
        against_best = [v for v in self.verdicts if v.a == self.best]
        return {v.b: self._further(v) for v in against_best if v.b in self.undecided}

    def _further(self, verdict: Verdict) -> int | None:
        return further_seeds(verdict, len(self.names), self.next_rate, self.overlap)

    def going_on(self, seeds: int, rate: float) -> list[str]:
        """Who needs more seeds: those undecided, and the best to compare with.

        `seeds` is where the last look will be, and `rate` its error rate. After the second look
        those that even these seeds would hardly decide are left as they are.
        """
        against_best = [v for v in self.verdicts if v.a == self.best and v.b in self.undecided]
        hopeful = [
            v.b
            for v in against_best
            if v.seeds < HOPE_SEEDS or chance(v, seeds, len(self.names), rate, self.overlap) > HOPE
        ]
        return [self.best, *hopeful] if hopeful and self.seeds < seeds else []

    def take(self) -> dict[str, Any]:
        """What to take, as the report has it; `within` is a share of the loss."""
        scale = self.verdicts[0].scale
        return {
            "optimizer": self.best,
            "within": self.within / scale if scale else None,
            "as_good": [n for n in self.names if n in self.good],
            "behind": [n for n in self.names if n in self.beaten],
            "undecided": self.undecided,
            "seeds_needed": self.seeds_needed(),
        }


def judge(
    losses: Mapping[str, Mapping[int, float]],
    seeds: Sequence[int],
    looks: Mapping[int, float],
    margin: float = MARGIN,
    mode: str = "min",
    scale: float | None = None,
    among: int | None = None,
    overlap: float = 0.0,
) -> Judged | None:
    """Look at the losses of contenders as often as there are new seeds.

    `losses` holds each contender's values by seed, and `seeds` is the order of these. Who was
    decided at a look has none of later seeds, and what was said of it stands. `among` is how many
    contenders there were, if some are not compared at all. None: there is nothing to compare yet.
    """
    known, before = Known(losses, margin, mode, scale, among or len(losses), overlap), 0
    for look in sorted(looks):
        fresh, before = seeds[before:look], look
        here = [name for name in losses if any(seed in losses[name] for seed in fresh)]
        common = [seed for seed in seeds[:look] if all(seed in losses[n] for n in here)]
        if len(here) >= 2 and len(common) > max(1, known.seeds):
            known.look(here, common, looks[look])
    later = [looks[look] for look in sorted(looks) if look > known.seeds]
    by_hand = (ERROR_RATE - sum(looks.values())) / 2
    return known.judged(later[0] if later else by_hand) if known.seeds else None


@dataclass
class Known:
    """What the looks up to now have shown."""

    losses: Mapping[str, Mapping[int, float]]
    margin: float
    mode: str
    scale: float | None
    among: int
    overlap: float
    pairs: dict[frozenset[str], Verdict] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)
    beaten: set[str] = field(default_factory=set)
    ends: dict[tuple[str, str], float] = field(default_factory=dict)  # `regrets_of`
    seeds: int = 0  # of the last look
    order: list[str] = field(default_factory=list)  # who was at the last look, the best first

    def look(self, names: Sequence[str], seeds: Sequence[int], rate: float) -> None:
        """Compare some contenders on their seeds. A claim stands until there is another."""
        values = {name: [self.losses[name][seed] for seed in seeds] for name in names}
        found = compare(values, self.margin, self.mode, rate, self.scale, self.among, self.overlap)
        self.ends |= regrets_of(values, self.mode, rate, self.among, self.overlap)
        self.good |= {name for name in names if self.worst(name) <= found[0].margin}
        for verdict in found:
            pair = frozenset(verdict[:2])
            if verdict.claims or pair not in self.pairs or not self.pairs[pair].claims:
                self.pairs[pair] = verdict
        self.order = [found[0].a, *(v.b for v in found if v.a == found[0].a)]
        claims = [verdict for verdict in self.pairs.values() if verdict.claims]
        self.beaten = {v.b if v.verdict == "better" else v.a for v in claims}
        self.seeds = len(seeds)

    def judged(self, next_rate: float) -> Judged:
        """The best is the first of those at the last look whom no other was seen to beat."""
        best = next((name for name in self.order if name not in self.beaten), self.order[0])
        good, sign = self.good - self.beaten - {best}, 1 if self.mode == "min" else -1
        first = [turned(v, best) for pair, v in self.pairs.items() if best in pair]
        first.sort(key=lambda verdict: -sign * verdict.difference)
        names = [best, *(verdict.b for verdict in first)]
        found = [
            self._row(a, b, b in good and a == best)
            for a, b in combinations(names, 2)
            if frozenset((a, b)) in self.pairs
        ]
        known = self.worst(best), good, self.beaten, self.seeds
        return Judged(names, found, *known, next_rate, self.overlap)

    def worst(self, name: str) -> float:
        """The most that a contender is behind the best."""
        return max(0.0, *(end for (mine, _), end in self.ends.items() if mine == name))

    def _row(self, a: str, b: str, as_good: bool) -> Verdict:
        verdict = turned(self.pairs[frozenset((a, b))], a)
        if verdict.claims:
            return verdict
        return verdict._replace(verdict="as good" if as_good else "undecided")


def turned(verdict: Verdict, first: str) -> Verdict:
    """The same verdict with `first` as its a."""
    if verdict.a == first:
        return verdict
    other: dict[Word, Word] = {"better": "worse", "worse": "better"}
    return verdict._replace(
        a=verdict.b,
        b=verdict.a,
        difference=-verdict.difference,
        low=-verdict.high,
        high=-verdict.low,
        verdict=other.get(verdict.verdict, verdict.verdict),
    )
