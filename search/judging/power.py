"""What seeds can show: the smallest difference, and how many more would decide."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from search.judging.comparing import (
    ERROR_RATE,
    MARGIN,
    Verdict,
    claims_rate,
    critical,
    students_t,
)
from search.judging.variances import DRAWS, Variances

POWER = 0.8  # chance to find the smallest difference that is promised
MOST_SEEDS = 100  # a difference that takes more is too close to the margin to decide


@lru_cache
def smallest_difference(
    noise: float,
    contenders: int,
    seeds: int,
    margin: float = MARGIN,
    error_rate: float = ERROR_RATE,
) -> float:
    """The difference that `seeds` show with probability POWER at least, as a share of the loss.

    `noise` is the standard deviation over seeds, as a share of the loss and the same for all.
    By simulation, since the test of variances has its part in how wide an interval is.
    """
    tables = np.random.default_rng(1).normal(size=(DRAWS // 4, contenders, seeds))
    rate, needed = claims_rate(error_rate, contenders), []
    pairs = contenders * (contenders - 1) // 2
    for table in tables:
        variance, df = Variances(table).of_pair(0, 1)
        half = students_t(1 - rate / (2 * pairs), df) * math.sqrt(variance / seeds)
        needed.append(half - float((table[0] - table[1]).mean()))
    return margin + noise * float(np.quantile(needed, POWER))


def further_seeds(
    known: Verdict, contenders: int, error_rate: float, overlap: float = 0.0
) -> int | None:
    """How many seeds more can be expected to decide about one that is not the best.

    What is decided is *worse* if the difference lies beyond the margin, else *as good*. None: more
    than MOST_SEEDS.
    """
    for total in range(known.seeds + 1, MOST_SEEDS + 1):
        if chance(known, total, contenders, error_rate, overlap) >= POWER:
            return total - known.seeds
    return None


def chance(
    known: Verdict, seeds: int, contenders: int, error_rate: float, overlap: float = 0.0
) -> float:
    """That so many seeds decide about a pair, were the difference measured so far the true one."""
    if abs(known.difference) > known.margin:
        df = known.df * (seeds - 1) / (known.seeds - 1)
        errors = critical(contenders, df, error_rate)
    else:
        errors = students_t(1 - error_rate / max(1, contenders - 1), seeds - 1)
    reach = abs(abs(known.difference) - known.margin)
    error = math.sqrt(known.variance * (1 / seeds + overlap))
    return NormalDist().cdf(reach / error - errors) if error else float(reach > 0)
