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
    seen: float = 0.0  # among those that went on
    widening: float = 1.0  # how much more the ranks of all vary than those of these


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
    return Correlation(middle, low, high, len(chosen), math.tanh(z), widening)


def widened(r: float, widening: float) -> float:
    """A correlation where the first variable has `widening` times the standard deviation."""
    return r * widening / math.sqrt(1 - r * r + (r * widening) ** 2)


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = counts.cumsum() - 1  # rank of the last of each value
    found: NDArray[np.float64] = (last - (counts - 1) / 2)[places]
    return found


def chained(links: Sequence[Correlation | None]) -> list[float | None]:
    """The correlations of rungs with the end, from those of each with the next.

    The product over the links from there on, as for curves whose future depends on where they
    stand and not on how they came there. A link is seen only among those that all rungs before it
    let on. How much closer together these are is carried from link to link (Lawley 1943): were
    each corrected alone, the products would be too low. A link that is not measured yet counts as
    one, a negative one as zero.
    """
    spread, whole = 1.0, list[float | None]()  # spread: of all, over that of those seen here
    for link in links:
        if link is None:
            whole.append(None)
            continue
        spread *= link.widening**2
        whole.append(max(0.0, widened(link.seen, math.sqrt(spread))))
        spread = 1 + link.seen**2 * (spread - 1)
    product, found = 1.0, list[float | None]()
    for one in reversed(whole):
        product *= 1.0 if one is None else one
        found.append(None if one is None else product)
    return found[::-1]
