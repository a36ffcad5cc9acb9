"""Whole searches on recorded curves, through engine, confirmation and verdict: who is called what.

    python tests/bench/bench_replicates.py

All four optimizers have the curves of Adam (`digits8.csv`), those of three of them raised by what
is said; so without that, each claim is false. Learning rates are what is searched.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from search.answer.standing import standing
from search.engine.analysis import ranked
from search.forecast.curves import Curves, read_csv
from search.forecast.play import play
from search.spec.spec import SearchSpec

CURVES = Path(__file__).parent / "digits8.csv"
NAMES = ("first", "second", "third", "fourth")
SEED_NOISE, LUCK = 0.010, 0.02  # of a training, and of a seed for all: shares of the loss
FEW_PAIRS, THEIR_LUCK = 0.008, 0.0045  # that 96 test pairs add: for each seed, and for all of them


@dataclass(frozen=True)
class Noisy:
    """Recorded curves with the noise that trainings have from seed to seed."""

    curves: Curves
    number: int  # of the search
    effect: float  # how much higher the losses of all but the first are
    few_pairs: bool = False

    @property
    def best(self) -> float:
        return self.curves.best

    def loss(self, config: Mapping[str, Any], share: float) -> float:
        optimizer, seed = config["optimizer"], config["seed"]
        name = optimizer["type"]
        own = self._drawn(SEED_NOISE, name, optimizer["lr"], seed) + self._drawn(LUCK, seed)
        if self.few_pairs:
            own += self._drawn(FEW_PAIRS, name, optimizer["lr"], seed, "pairs")
            own += self._drawn(THEIR_LUCK, name, optimizer["lr"], "pairs")
        raised = 0.0 if name.endswith(NAMES[0]) else self.effect
        return self.curves.loss(config, share) * math.exp(own) * (1 + raised)

    def _drawn(self, deviation: float, *what: object) -> float:
        return random.Random(f"{self.number} {what}").gauss(0, deviation)


@dataclass(frozen=True)
class Way:
    """A way to spend about as much compute."""

    trials: int
    confirm: dict[str, Any]
    replicates: int = 1
    few_pairs: bool = False


WAYS = {
    "28 trials, 4 seeds, 96 test pairs": Way(28, {"seeds": 4}, few_pairs=True),
    "28 trials, 4 seeds": Way(28, {"seeds": 4}),
    "28 trials, `auto`": Way(28, {"seeds": "auto"}),
    "64 trials, 4 replicates": Way(64, {"seeds": "auto"}, 4),
    "128 trials, 8 replicates": Way(128, {"seeds": "auto"}, 8),
}


@dataclass(frozen=True)
class Said:
    """Of one search: how its winners truly differ, what is claimed, and the compute."""

    differ: bool  # by more than 1 %
    claimed: bool
    behind: float  # share of those that are said to be behind
    compute: float


def searches(way: Way, effect: float, count: int) -> Iterator[Said]:
    adam = read_csv(CURVES).by_optimizer["adam"]
    curves = Curves(dict.fromkeys(NAMES, adam))
    for number in range(count):
        spec = curves.spec(
            allocation="equal",
            budget={"trials": way.trials},
            sampler={"type": "random", "seed": number},
            confirm=way.confirm,
            replicates=way.replicates,
        )
        noisy = Noisy(curves, number, effect, way.few_pairs)
        yield told(spec, noisy, curves)


def told(spec: SearchSpec, noisy: Noisy, curves: Curves) -> Said:
    book = play(spec, noisy, workers=4).book
    judged = standing(book, 0.01).judged
    assert judged is not None
    worth = [
        fmean(
            curves.loss(next(t for t in ranked(book, name) if t.replicate == r).config, 1.0)
            for r in range(spec.replicates)
        )
        for name in spec.optimizers
    ]
    compute = sum(trial.samples / trial.full_samples for trial in book.trials.values())
    beaten = [name for name in judged.beaten if not name.endswith(NAMES[0])]
    differ = max(worth) / min(worth) > 1.01
    return Said(differ, bool(judged.beaten), len(beaten) / 3, compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="searches for each number")
    count = parser.parse_args().count
    effects = (0.01, 0.02, 0.03, 0.05)
    print(
        "| | full trainings | winners truly differ by 1 % | claims | "
        + " | ".join(f"found at {effect:.0%}" for effect in effects)
        + " |"
    )
    for name, way in WAYS.items():
        same = list(searches(way, 0.0, count))
        cells = [
            f"{fmean(one.compute for one in same):.0f}",
            f"{fmean(one.differ for one in same):.0%}",
            f"{fmean(one.claimed for one in same):.1%}",
            *(f"{fmean(one.behind for one in searches(way, e, count // 2)):.0%}" for e in effects),
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
