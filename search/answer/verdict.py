"""Which of several contenders is better, and how sure that is: statistics of paired seeds.

Every contender is trained on the same seeds, so a seed's luck is common to all and drops out of
the differences. A contender's losses are modelled as its mean, plus the seed's effect, plus noise
(a randomized block design; Montgomery, Design and Analysis of Experiments, chapter 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Word = Literal["better", "worse", "no difference shown at this budget"]
NOT_SHOWN: Word = "no difference shown at this budget"
MARGIN = 0.01  # of the best mean loss: less than this is not worth a claim
CONFIDENCE = 0.95  # that all intervals of a comparison hold at once
POOL_LEVEL = 0.2  # variances are pooled unless a test rejects their equality at this level
SEEDS_TO_SORT = 5  # with fewer, the test can't say which contenders vary alike, so all must
# The test of variances is sometimes wrong; the intervals spend only this share of the error
# rate, which keeps the whole within it (simulated in tests/search/answer/test_verdict.py, for
# three seeds and more).
INTERVAL_SHARE = 0.5
POWER = 0.8  # chance to find the smallest difference that is promised
DRAWS = 4000  # of the null distribution; its seed is fixed, so a verdict is a function of losses
Table = NDArray[np.float64]  # [contenders, seeds]


class Verdict(NamedTuple):
    """`difference` is the mean over seeds of a's loss minus b's; a is `verdict` than b."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    margin: float  # in units of the loss
    verdict: Word
    pooled: bool  # whether the variance is that of all contenders which vary alike

    def json(self) -> dict[str, Any]:
        content = self._asdict()
        return content | {"interval": [content.pop("low"), content.pop("high")]}


def compare(
    losses: Mapping[str, Sequence[float]],
    margin: float = MARGIN,
    mode: str = "min",
    confidence: float = CONFIDENCE,
) -> list[Verdict]:
    """The verdict on every pair of contenders, the best's first.

    `losses` holds each contender's values over the same seeds, in the same order; `margin` is a
    share of the best contender's mean. A claim needs an interval that lies beyond the margin.
    The intervals hold for all pairs at once: the best is chosen by the same numbers, so
    correcting for the comparisons with the best alone would claim too much.

    Raises:
        ValueError: fewer than two contenders, or not the same number >= 2 of seeds for all.
    """
    names = sorted(losses, key=lambda name: np.mean(losses[name]), reverse=mode == "max")
    lengths = {len(values) for values in losses.values()}
    if len(names) < 2 or len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(f"need two contenders on the same two seeds or more, got {dict(losses)}")
    table = np.array([losses[name] for name in names], dtype=float)
    wide = abs(float(table[0].mean())) * margin
    alike = alike_in_variance(table)
    shared = residual_variance(table[alike]) if alike else None
    verdicts = []
    for first, second in combinations(range(len(names)), 2):
        pooled = shared if first in alike and second in alike else None
        mean, half = interval(table[first] - table[second], len(names), pooled, confidence)
        low, high = mean - half, mean + half
        word = _word(low, high, wide, mode)
        pair = names[first], names[second]
        verdicts.append(Verdict(*pair, mean, low, high, wide, word, pooled is not None))
    return verdicts


def interval(
    differences: Table,
    contenders: int,
    shared: tuple[float, int] | None,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """The mean of a pair's differences over seeds, and half the width of its interval.

    `shared` is the variance of one contender's noise and its degrees of freedom, where it is
    pooled; a pair that varies more than that keeps its own variance nevertheless.
    """
    seeds = len(differences)
    variance, df = float(differences.var(ddof=1)), seeds - 1
    if shared is not None:
        variance, df = max(variance, 2 * shared[0]), shared[1]
    half = critical(contenders, df, confidence) * math.sqrt(variance / seeds)
    return float(differences.mean()), half


def _word(low: float, high: float, margin: float, mode: str) -> Word:
    if low > margin:
        return "worse" if mode == "min" else "better"
    if high < -margin:
        return "better" if mode == "min" else "worse"
    return NOT_SHOWN


def residuals(table: Table) -> Table:
    """What neither the contender nor the seed explains: [contenders, seeds]."""
    rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    left: Table = table - rows - columns + table.mean()
    return left


def residual_variance(table: Table) -> tuple[float, int]:
    """The variance of the noise, pooled over contenders, and its degrees of freedom."""
    contenders, seeds = table.shape
    df = (contenders - 1) * (seeds - 1)
    return float((residuals(table) ** 2).sum() / df), df


def equal_variances(table: Table) -> bool:
    """Whether all contenders can be taken to vary alike over seeds (SGD often varies more).

    Cochran's C, the largest contender's share of the squared residuals, against its distribution
    under equal variances. Of two contenders the residuals mirror, so there is nothing to test.
    """
    squares = (residuals(table) ** 2).sum(1)
    if len(table) == 2 or squares.sum() == 0:
        return True
    null = _largest_shares(*table.shape)
    return float((null >= squares.max() / squares.sum()).mean()) >= POOL_LEVEL


def alike_in_variance(table: Table) -> list[int]:
    """The contenders whose variances are pooled: all but the loudest, dropped one by one.

    With fewer seeds than SEEDS_TO_SORT it is all or none: false claims would be too many.
    """
    alike = list(range(len(table)))
    while not equal_variances(table[alike]):
        if len(alike) == 3 or table.shape[1] < SEEDS_TO_SORT:
            return []
        alike.pop(int((residuals(table[alike]) ** 2).sum(1).argmax()))
    return alike


@lru_cache
def _largest_shares(contenders: int, seeds: int) -> Table:
    """Cochran's C where variances are equal, by simulation: [DRAWS]."""
    noise = np.random.default_rng(0).normal(size=(DRAWS, contenders, seeds))
    noise -= noise.mean(2, keepdims=True)
    noise -= noise.mean(1, keepdims=True)
    squares = (noise**2).sum(2)
    shares: Table = squares.max(1) / squares.sum(1)
    return shares


@lru_cache
def critical(contenders: int, df: int, confidence: float = CONFIDENCE) -> float:
    """Standard errors on each side of a difference, for all pairs at once (Bonferroni)."""
    pairs = contenders * (contenders - 1) // 2
    error_rate = (1 - confidence) * (INTERVAL_SHARE if contenders > 2 else 1)
    return students_t(1 - error_rate / (2 * pairs), df)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of one contender's mean over seeds; it says nothing about differences."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = students_t((1 + confidence) / 2, len(values) - 1) * error
    mean = float(np.mean(values))
    return mean - half, mean + half


def students_t(share: float, df: float) -> float:
    """What Student's t stays under with this probability."""
    from scipy import stats  # takes a second, and a search has its report when it ends

    return float(stats.t.ppf(share, df))


@lru_cache
def smallest_difference(
    noise: float, contenders: int, seeds: int, margin: float = MARGIN, power: float = POWER
) -> float:
    """The difference that `seeds` show with probability `power`, as a share of the loss.

    `noise` is the standard deviation over seeds, as a share of the loss and the same for all.
    By simulation, since the test of variances has its part in how wide an interval is.
    """
    tables = np.random.default_rng(1).normal(size=(DRAWS // 4, contenders, seeds))
    needed = []
    for table in tables:
        alike = alike_in_variance(table)
        shared = residual_variance(table[alike]) if {0, 1} <= set(alike) else None
        mean, half = interval(table[0] - table[1], contenders, shared)
        needed.append(half - mean)
    return margin + noise * float(np.quantile(needed, power))
