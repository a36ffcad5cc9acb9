"""How much the losses of contenders vary from seed to seed, and whose variances can be pooled."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POOL_LEVEL = 0.2  # variances are pooled unless a test rejects their equality at this level
SEEDS_TO_SORT = 5  # with fewer, the test can't say which contenders vary alike, so all must
FEWEST_SEEDS = 3  # with two, nothing is known of who varies more, so no variances are shared
DRAWS = 4000  # of the null distribution; its seed is fixed, so a verdict is a function of losses
Table = NDArray[np.float64]  # [contenders, seeds]


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


class Variances:
    """Those of the differences between contenders, from seed to seed."""

    def __init__(self, table: Table) -> None:
        self.table, self.alike = table, set(alike_in_variance(table))
        contenders, self.df = len(table), table.shape[1] - 1
        self.each = (residuals(table) ** 2).sum(1) / self.df * contenders / (contenders - 1)
        self.shared = residual_variance(table[sorted(self.alike)]) if self.alike else None

    def of_pair(self, first: int, second: int) -> tuple[float, float]:
        """The variance of a pair's differences, and its degrees of freedom.

        Pooled over all contenders that vary alike, if both do; else that of the two contenders'
        own residuals (Welch 1947); of a pair alone, or with two seeds, that of its differences. A
        pair that varies more than the first two say keeps its own variance nevertheless.
        """
        own = float((self.table[first] - self.table[second]).var(ddof=1))
        if self.shared and {first, second} <= self.alike:
            return max(own, 2 * self.shared[0]), self.shared[1]
        mine, its = self.each[[first, second]]
        if len(self.table) == 2 or self.df + 1 < FEWEST_SEEDS or not mine + its:
            return own, self.df
        df = (mine + its) ** 2 / (mine**2 + its**2) * self.df
        return max(own, float(mine + its)), float(df)


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
    if len(table) > 2 and table.shape[1] < FEWEST_SEEDS:
        return []
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
