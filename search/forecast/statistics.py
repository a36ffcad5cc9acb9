"""What many replays come to: interquartile means, with intervals over their seeds."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from statistics import fmean
from typing import Any

RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Outcome:
    """What one replayed search came to. Compute is counted in full trainings."""

    compute: float  # workers x time until the search ended
    compute_to_1pct: float  # until a complete trial was within 1 % of the best known; may be inf
    regret: float  # of the best complete trial, relative to the best known
    kept: bool  # whether the best of all proposed was run to its end
    trace: tuple[tuple[float, float], ...]  # (compute, loss) of each new best complete trial


def summarize(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    """Interquartile means with 95 % bootstrap intervals over the seeds.

    A search that never came within 1 % counts with all that it spent, which flatters it; `found`
    says how many did.
    """
    to_1pct = [min(o.compute_to_1pct, o.compute) for o in outcomes]
    return {
        "compute": interval([o.compute for o in outcomes]),
        "compute_to_1pct": interval(to_1pct),
        "regret": interval([o.regret for o in outcomes]),
        "kept": interval([float(o.kept) for o in outcomes], mean=fmean),
        "found": interval([float(o.compute_to_1pct < math.inf) for o in outcomes], mean=fmean),
    }


def interval(values: list[float], mean: Any = None) -> dict[str, float]:
    """The interquartile mean (or another mean), and its 95 % bootstrap interval."""
    mean = mean or interquartile_mean
    draw = random.Random(0)  # noqa: S311
    means = sorted(mean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return {"iqm": mean(values), "low": low, "high": high}


def interquartile_mean(values: list[float]) -> float:
    """The mean of the middle half."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return fmean(ordered[cut : len(ordered) - cut])
