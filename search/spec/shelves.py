"""The sampler shelf and the scheduler shelf: who proposes trials, and who stops them early.

An entry names its code, which is imported when a search runs, so that a spec is read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal


@dataclass(frozen=True)
class SamplerEntry:
    """A sampler: a class of Optuna's, or a design of ours (see search/engine/designs.py).

    Optuna's is called with `arguments` and a seed, and learns from the trials that it is shown.
    """

    target: str  # "package.module:attribute"
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    design: bool = False  # a function that gives configs by itself, without Optuna
    spreads: bool = False  # over the whole space from the first trial on
    finite: bool = False  # has so many points, and then no more
    fronts: bool = True  # can look for a Pareto front
    conditional: bool = True  # takes several optimizers, whose knobs differ, in one study
    needs: Literal["choices", "ranges of lr"] | None = None
    learns: bool = False  # by a model, for which it draws some trials at random first
    from_complete: bool = False  # Optuna shows its model complete trials alone


SAMPLERS = {
    "tpe": SamplerEntry(
        "optuna.samplers:TPESampler",
        "Bergstra et al. 2011; multivariate and grouped: optimizers have knobs of their own",
        {"multivariate": True, "group": True, "constant_liar": True},  # liar: trials in parallel
        learns=True,
    ),
    "random": SamplerEntry("optuna.samplers:RandomSampler", "Bergstra & Bengio 2012"),
    "qmc": SamplerEntry(
        "search.engine.designs:sobol_points", "Sobol 1967, scrambled", design=True, spreads=True
    ),
    "gp": SamplerEntry(
        "optuna.samplers:GPSampler",
        "Snoek et al. 2012",
        fronts=False,
        conditional=False,
        learns=True,
        from_complete=True,
    ),
    "cmaes": SamplerEntry(
        "search.engine.designs:evolution",
        "Hansen & Ostermeier 2001",
        design=True,
        fronts=False,
        needs="ranges of lr",
    ),
    "grid": SamplerEntry(
        "search.engine.designs:grid",
        "every combination of choices",
        design=True,
        spreads=True,
        finite=True,
        needs="choices",
    ),
}


@dataclass(frozen=True)
class SchedulerEntry:
    """A scheduler: `target(config, rungs, results)` gives it (see search/engine/scheduler.py)."""

    target: str  # "package.module:attribute"
    source: str
    rungs: bool = True  # it looks at trials before their end
    measures: bool = False  # what ranks at its rungs are worth, where grace_steps is auto


SCHEDULERS = {
    "asha": SchedulerEntry(
        "search.engine.asha:asha", "Li et al. 2020, algorithm 2, with promotion", measures=True
    ),
    "hyperband": SchedulerEntry("search.engine.scheduler:hyperband", "Li et al. 2018"),
    "median": SchedulerEntry(
        "search.engine.scheduler:median", "Golovin et al. 2017, section 3.2.2"
    ),
    "none": SchedulerEntry("search.engine.scheduler:without", "full trainings only", rungs=False),
}

if TYPE_CHECKING:
    SamplerName = str
    SchedulerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]
    SchedulerName = Literal[tuple(SCHEDULERS)]
