"""How often the words of a report are wrong, and what they find: simulated confirmations.

python tests/bench/bench_answer.py
"""

from __future__ import annotations

import argparse
from statistics import fmean
from typing import NamedTuple

import numpy as np

from search.judging.looks import Judged, judge, looks_of

NOISE = 0.01  # of the loss, from seed to seed
LOUD, LUCK = 4.5, 3.0  # of the loud one, and what a seed adds for all, in units of the noise
KINDS: dict[str, tuple[float, ...]] = {
    "two": (1, 1),
    "four": (1, 1, 1, 1),
    "four, one loud": (1, 1, 1, LOUD),
    "ten, one loud": (*[1] * 9, LOUD),
}
PLANS: tuple[int | str, ...] = (3, 5, 12, "auto")
EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.1)  # of the loss


class Outcome(NamedTuple):
    known: Judged
    trainings: int  # for each contender, on average


def confirmation(
    rng: np.random.Generator,
    means: np.ndarray,
    noise: np.ndarray,
    plan: int | str,
    margin: float,
    heavy: bool = False,
) -> Outcome:
    """One confirmation: a number of seeds for all, or `auto`, where only the undecided go on."""
    looks = looks_of([plan])
    last = max(looks)
    shape = len(means), last
    drawn = rng.standard_t(3, shape) / 3**0.5 if heavy else rng.normal(size=shape)
    table = means[:, None] + noise[:, None] * drawn + LUCK * NOISE * rng.normal(size=last)
    losses = {str(i): dict[int, float]() for i in range(len(means))}
    going, known = list(losses), None
    for look in sorted(looks):
        for name in going:
            losses[name] = {seed: float(table[int(name), seed]) for seed in range(look)}
        known = judge(losses, range(last), looks, margin)
        assert known is not None
        if not (going := known.going_on(last, looks[last])):
            break
    assert known is not None
    return Outcome(known, sum(map(len, losses.values())) / len(losses))


def many(count: int, kind: str, shift: float, plan: int | str, *how: float) -> list[Outcome]:
    """Confirmations in which the first contender is better than the others by `shift`."""
    rng, noise = np.random.default_rng(1), np.array(KINDS[kind]) * NOISE
    means = np.array([1.0, *[1 + shift] * (len(noise) - 1)])
    return [confirmation(rng, means, noise, plan, how[0], bool(how[1])) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="confirmations for each number")
    count = parser.parse_args().count
    print("| | " + " | ".join(f"{plan} seeds" if plan != "auto" else "auto" for plan in PLANS))
    for kind in KINDS:
        for heavy in (False, True):
            rates = []
            for plan in PLANS:
                found = many(count, kind, 0.0, plan, 0.0, heavy)
                rates.append(f"{fmean(bool(one.known.beaten) for one in found):.1%}")
            print(f"| {kind}{', heavy tails' * heavy} | {' | '.join(rates)} |")
    print("as good, falsely: all but the first are worse by just more than the margin")
    for kind in KINDS:
        rates = []
        for plan in PLANS:
            found = many(count, kind, 0.0101, plan, 0.01, False)
            rates.append(f"{fmean(bool(one.known.good - {'0'}) for one in found):.1%}")
        print(f"| {kind} | {' | '.join(rates)} |")
    print("found, of four: the first is better than each other by so much; seeds for each")
    for effect in (0.0, *EFFECTS):
        cells = []
        for plan in PLANS:
            found = many(count // 4, "four", effect, plan, 0.01, False)
            behind = fmean(len(one.known.beaten - {"0"}) / 3 for one in found)
            good = fmean(len(one.known.good) / 3 for one in found)
            cost = fmean(one.trainings for one in found)
            cells.append(f"{behind:.0%} behind, {good:.0%} as good, {cost:.1f} seeds")
        print(f"| {effect:.0%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
