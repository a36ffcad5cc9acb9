"""Samplers of our own making over one optimizer's dimensions: grid, Sobol points, evolution.

A design is a function of what is wanted that gives configs, by dimension, in the order in which
it would have them tried; the sampler takes the first that was not tried yet.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search.engine.pareto import better
from search.history.book import Trial
from search.spec.dimensions import WHOLE_NUMBERS, Choices, Fixed, Range, between, quantile_of
from search.spec.space import Space

FIRST_SIGMA = 0.25  # of the search distribution, in quantiles of the ranges


@dataclass(frozen=True)
class Wanted:
    """The trial that is to be proposed, and what is known before it."""

    number: int
    space: Space
    names: list[str]  # of the optimizers that compete
    optimizer: str | None  # that it is to have, if that is decided
    trials: Sequence[Trial]
    seed: int  # the sampler's
    metric: str
    mode: str

    @property
    def own(self) -> str:
        """The optimizer that it has: they take turns where none is decided."""
        return self.optimizer or self.names[self.number % len(self.names)]

    @property
    def mine(self) -> list[Trial]:
        """Earlier trials of that optimizer."""
        return [trial for trial in self.trials if trial.optimizer == self.own]


def grid(wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Every combination of choices, optimizers in turn."""
    names = wanted.names if wanted.optimizer is None else [wanted.optimizer]
    rounds = itertools.zip_longest(*(wanted.space.combinations(name) for name in names))
    yield from (chosen for one in rounds for chosen in one if chosen is not None)


def sobol_points(wanted: Wanted) -> Iterator[dict[str, Any]]:
    """The points of a scrambled Sobol sequence for each optimizer, one after the other."""
    for index in itertools.count(len(wanted.mine)):
        yield sobol(wanted.space, wanted.own, wanted.seed, index)


def evolution(wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Draws from CMA-ES for each optimizer."""
    worth = furthest_first(wanted.metric, wanted.mode)
    for attempt in itertools.count():
        seed = mix(wanted.seed, wanted.number, attempt)
        yield evolve(wanted.space, wanted.own, wanted.mine, worth, seed)


def sobol(space: Space, name: str, seed: int, index: int) -> dict[str, Any]:
    """Point `index` of an optimizer's scrambled Sobol sequence, by dimension."""
    from scipy.stats import qmc

    free = {k: d for k, d in space.dimensions(name) if not isinstance(d, Fixed)}
    chosen = {k: d.value for k, d in space.dimensions(name) if isinstance(d, Fixed)}
    if free:
        sequence = qmc.Sobol(len(free), scramble=True, rng=seed)
        point = sequence.fast_forward(index).random(1)[0] if index else sequence.random(1)[0]
        chosen |= {k: at(k, d, float(q)) for (k, d), q in zip(free.items(), point, strict=True)}
    order = dict(space.dimensions(name))
    return {"optimizer": name, **{key: chosen[key] for key in order}}


def evolve(
    space: Space,
    name: str,
    trials: Sequence[Trial],
    worth: Callable[[Trial], tuple[float, float]],
    seed: int,
) -> dict[str, Any]:
    """A draw from CMA-ES (Hansen & Ostermeier 2001) over an optimizer's ranges, choices at random.

    The evolution is run again from the start for each draw: every full generation of `trials`
    that have all stopped is told to it by rank, the most worthy first.
    """
    import numpy as np
    from cmaes import CMA

    dimensions = dict(space.dimensions(name))
    ranges = {k: d for k, d in dimensions.items() if isinstance(d, Range)}
    chosen = sobol(space, name, seed, 0)  # at random, as the seed is this draw's alone
    if len(ranges) < 2:  # too few for a covariance
        return chosen
    bounds = np.tile([0.0, 1.0], (len(ranges), 1))
    mean = np.full(len(ranges), 0.5)
    evolution = CMA(mean=mean, sigma=FIRST_SIGMA, bounds=bounds, seed=seed)
    size = evolution.population_size
    for start in range(0, len(trials) - size + 1, size):
        generation = trials[start : start + size]
        if any(trial.state in ("pending", "running") for trial in generation):
            break
        ranking = sorted(generation, key=worth)
        evolution.tell(
            [
                (np.array([quantile_of(d, t.chosen[k]) for k, d in ranges.items()]), float(rank))
                for rank, t in enumerate(ranking)
            ]
        )
    point = dict(zip(ranges, evolution.ask(), strict=True))
    return chosen | {key: at(key, ranges[key], float(q)) for key, q in point.items()}


def at(key: str, dimension: Range | Choices, quantile: float) -> Any:
    """The value of a dimension at a quantile."""
    if isinstance(dimension, Choices):
        return dimension.values[int(quantile * len(dimension.values))]
    value = between(dimension, quantile)
    return round(value) if key in WHOLE_NUMBERS else value


def furthest_first(metric: str, mode: str) -> Callable[[Trial], tuple[float, float]]:
    """A sort key: trials that got further come first, and among equals the better ones."""
    ranked = better(mode)

    def key(trial: Trial) -> tuple[float, float]:
        value = trial.last(metric)
        bad = value is None or trial.state == "diverged"
        return (math.inf, 0.0) if bad else (-trial.samples, ranked(value or 0.0))

    return key


def mix(*parts: int) -> int:
    """A seed of 32 bits from several numbers."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")
