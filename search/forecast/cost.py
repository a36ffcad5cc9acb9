"""What a search will spend, before it spends it: its own decisions, played on made-up losses."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from search.engine.scheduler import rung_levels
from search.forecast.play import play
from search.history.book import Book
from search.spec.shelves import SAMPLERS
from search.spec.spec import Budget, Objective, SearchSpec

SEARCHES = 2  # that are simulated; the mean is told
MOST = 80  # trials of a simulated search; a larger one is scaled up from that
HALVINGS = 4  # steps of the noise for each halving of the budget
NOISE = 0.25  # standard deviation that each halving adds, where it is 1 over the trials
ASSUMED = (
    "losses at random, which no sampler learns from and whose ranks hold but for noise "
    f"({NOISE:g} standard deviations more with each halving of the steps)"
)


@dataclass(frozen=True)
class MadeUp:
    """Losses that know nothing of the config: a rank is drawn for each, and a walk of noise
    from the end of the training to its beginning.
    """

    seed: int
    best: float = 1.0

    def loss(self, config: Mapping[str, Any], share: float) -> float:
        draw = random.Random(f"{self.seed} {json.dumps(config, sort_keys=True)}")  # noqa: S311
        rank, steps = draw.gauss(0, 1), round(-math.log2(share) * HALVINGS)
        noise = sum(draw.gauss(0, NOISE / math.sqrt(HALVINGS)) for _ in range(steps))
        return math.exp((rank + noise) / 10) - math.log(share)


@dataclass(frozen=True)
class Forecast:
    """Of one search: means over those that were simulated."""

    rungs: list[dict[str, Any]]  # step, samples and the trials that get there; the end is the last
    full_trainings: float
    trials: int  # of each simulated search


def forecast(spec: SearchSpec, at_once: int) -> Forecast:
    """Play a spec a few times, with every rule of the live search but what its sampler learns."""
    played = simplified(spec)
    books = [play(played, MadeUp(seed), at_once).book for seed in range(SEARCHES)]
    wanted, most = proposals(spec, spec.budget.trials), played.budget.trials
    scale = wanted / most
    full, batch = spec.trial.samples, spec.trial.batch_size
    rungs = [
        {
            "step": level // batch,
            "samples": level,
            "trials": round(scale * fmean(arrived(book, level / full) for book in books), 1),
        }
        for level in (*rung_levels(spec), full)
    ]
    cost = fmean(
        sum(trial.samples / trial.full_samples for trial in book.trials.values()) for book in books
    )
    return Forecast(rungs, round(scale * cost, 2), most)


def arrived(book: Book, share: float) -> int:
    """Trials that got to a share of their budget."""
    return sum(t.samples >= share * t.full_samples for t in book.trials.values())


def simplified(spec: SearchSpec) -> SearchSpec:
    """A spec of one objective, without limits of time, whose proposals cost nothing to make."""
    trials = min(proposals(spec, spec.budget.trials), MOST)
    return spec.model_copy(
        update={
            "budget": Budget(trials=max(1, trials)),
            "objective": Objective(),
            "sampler": spec.sampler.model_copy(update={"type": "random"}),
            "confirm": None,
            "trial_timeout": None,
        }
    )


def proposals(spec: SearchSpec, wanted: int) -> int:
    """Trials that there will be: a grid has no more than its points, besides the baselines."""
    if not SAMPLERS[spec.sampler.type].finite:
        return wanted
    points = sum(
        math.prod(len(dimension.ends) for _, dimension in spec.space.dimensions(name))
        for name in spec.optimizers
    )
    return min(wanted, points)
