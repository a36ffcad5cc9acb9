"""Whether ranks at a rung tell those at the next: measured on the trials that were let on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 5  # pairs that a correlation is estimated from
NORMAL_90 = 1.645  # standard deviations to each side that hold 90 %


@dataclass(frozen=True)
class Correlation:
    """Spearman's, as it would be had every trial of the earlier rung gone on; 90 % interval."""

    estimate: float
    low: float
    high: float
    pairs: int


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
    if x.std() == 0 or y.std() == 0:
        return None
    widening = max(1.0, float(everyone.std() / everyone[chosen].std()))
    z = math.atanh(max(-0.999, min(0.999, float(np.corrcoef(x, y)[0, 1]))))
    margin = NORMAL_90 * math.sqrt(1.06 / (len(chosen) - 3))
    middle, low, high = (widened(math.tanh(v), widening) for v in (z, z - margin, z + margin))
    return Correlation(middle, low, high, len(chosen))


def widened(r: float, widening: float) -> float:
    """A correlation where the first variable has `widening` times the standard deviation."""
    return r * widening / math.sqrt(1 - r * r + (r * widening) ** 2)


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = counts.cumsum() - 1  # rank of the last of each value
    found: NDArray[np.float64] = (last - (counts - 1) / 2)[places]
    return found
