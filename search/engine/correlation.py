"""Whether ranks at a rung tell those at the next: measured on the trials that were let on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

FEWEST = 5  # pairs that a correlation is estimated from
NORMAL_90 = 1.645  # standard deviations to each side that hold 90 %


@dataclass(frozen=True)
class Correlation:
    """Spearman's, as it would be had every trial of the earlier rung gone on; 90 % interval."""

    estimate: float
    low: float
    high: float
    pairs: int


@lru_cache(maxsize=256)  # most decisions change no rung, and ask for the same again
def rank_correlation(
    earlier: tuple[float, ...], later: tuple[float | None, ...]
) -> Correlation | None:
    """How the ranks of trials agree with those at a later rung, which some did not reach (None).

    Who goes on is chosen by the earlier value. So the earlier ranks of those who did are closer
    together than all are, and tell less. How the later value depends on the earlier one is not
    changed by such a choice, which gives the correlation over all (Pearson 1903; Thorndike 1949,
    case 2). The interval is Fisher's, with the variance of ranks (Fieller et al. 1957).

    None where fewer than FEWEST trials went on, or all of them are equal.
    """
    chosen = [place for place, value in enumerate(later) if value is not None]
    if len(chosen) < FEWEST:
        return None
    everyone = ranks(earlier)
    x = ranks([earlier[place] for place in chosen])
    y = ranks([value for value in later if value is not None])
    if spread(x) == 0 or spread(y) == 0:
        return None
    widening = max(1.0, spread(everyone) / spread([everyone[place] for place in chosen]))
    z = math.atanh(max(-0.999, min(0.999, pearson(x, y))))
    margin = NORMAL_90 * math.sqrt(1.06 / (len(chosen) - 3))
    middle, low, high = (widened(math.tanh(v), widening) for v in (z, z - margin, z + margin))
    return Correlation(middle, low, high, len(chosen))


def widened(r: float, widening: float) -> float:
    """A correlation where the first variable has `widening` times the standard deviation."""
    return r * widening / math.sqrt(1 - r * r + (r * widening) ** 2)


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    products = ((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return sum(products) / len(x) / (spread(x) * spread(y))


def spread(x: Sequence[float]) -> float:
    """The standard deviation."""
    mean = sum(x) / len(x)
    return math.sqrt(sum((a - mean) ** 2 for a in x) / len(x))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for rank, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(rank)
    return [sum(places[value]) / len(places[value]) for value in values]
