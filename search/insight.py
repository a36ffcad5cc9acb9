"""What the trials of a search tell beside their ranking: learning rates, luck, early stopping.

Everything here is within one optimizer or about the search itself. What an optimizer's choice is
worth is for the confirm stage to say: importances computed over a search that favours the early
leaders say nothing about it.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy import stats

from search.analysis import better, objective, ranked
from search.dimensions import Choices, Range
from search.history import Book, Trial
from search.scheduler import rung_levels
from search.spec import SearchSpec

BASIN = 0.05  # a learning rate belongs to the basin if its loss is within this of the best
EDGE = 0.05  # of a range's width: a best so near an end may lie beyond it
RESAMPLES = 500
ENOUGH_FOR_IMPORTANCE = 10  # complete trials of one optimizer
ENOUGH_FOR_RANKS = 5  # trials that went all the way
LOW_CORRELATION = 0.6


def learning_rates(book: Book, name: str) -> dict[str, Any]:
    """The best learning rate of an optimizer, the basin around it, and if it lies at an edge."""
    metric = objective(book)[0]
    trials = ranked(book, name)
    space = SearchSpec.model_validate(book.spec).space.optimizer[name]["lr"]
    ends = [float(end) for end in space.ends if isinstance(end, int | float)]
    content: dict[str, Any] = {"range": [min(ends), max(ends)], "best": None, "basin": None}
    if not trials:
        return content | {"edge": None}
    best = trials[0].last(metric)
    assert best is not None
    bound = abs(best) * BASIN
    near = [
        trial.config["optimizer"]["lr"]
        for trial in trials
        if (value := trial.last(metric)) is not None and abs(value - best) <= bound
    ]
    lr = trials[0].config["optimizer"]["lr"]
    return content | {"best": lr, "basin": [min(near), max(near)], "edge": edge(space, lr)}


def edge(space: Any, lr: float) -> str | None:
    """low or high, if the value lies at that end of its range (or beyond)."""
    if not isinstance(space, Range):
        return None
    low, high = (math.log(e) if space.log else e for e in (space.low, space.high))
    place = ((math.log(lr) if space.log else lr) - low) / (high - low)
    return "low" if place <= EDGE else "high" if place >= 1 - EDGE else None


def expected_best(book: Book, name: str) -> dict[str, Any] | None:
    """The best value to expect from k of an optimizer's trials drawn at random, k = 1, 2, ...

    Dodge et al. 2019 (Show Your Work), without replacement; the band is a bootstrap over trials.
    A trial that was stopped early counts with its last value, a diverged one with the worst.
    """
    metric, mode = objective(book)
    trials = [t for t in book.stage("search") if t.optimizer == name and t.reports]
    values = [t.last(metric) for t in trials]
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return None
    worst = max(known, key=better(mode))
    diverged = [t.state == "diverged" for t in trials]
    filled = np.array(
        [worst if v is None or d else v for v, d in zip(values, diverged, strict=True)]
    )
    full = SearchSpec.model_validate(book.spec).trial.samples
    rng = np.random.default_rng(0)
    draws = np.array([best_of(rng.choice(filled, len(filled)), mode) for _ in range(RESAMPLES)])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    cost = float(np.mean([t.samples for t in trials])) / full
    return {
        "trials": list(range(1, len(filled) + 1)),
        "full_trainings": [k * cost for k in range(1, len(filled) + 1)],
        "mean": best_of(filled, mode).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def best_of(values: np.ndarray, mode: str = "min") -> np.ndarray:
    """E[best of k of the n values, drawn without replacement], for k = 1 ... n."""
    n = len(values)
    ordered = np.sort(values) if mode == "min" else np.sort(values)[::-1]
    return np.array(
        [
            sum(ordered[i] * math.comb(n - 1 - i, k - 1) for i in range(n - k + 1))
            / math.comb(n, k)
            for k in range(1, n + 1)
        ]
    )


def rungs(book: Book) -> list[dict[str, Any]]:
    """For each rung: how well ranks there agree with ranks at the end, among those that finished.

    Trials that were stopped have no end to compare with, so the correlation is of survivors: a
    low one is a warning, a high one no proof. `best_rank` is the winner's rank at the rung, as a
    share: above the share that a rung keeps, the winner came through by luck.
    """
    metric, mode = objective(book)
    spec, trials = SearchSpec.model_validate(book.spec), ranked(book)
    if spec.scheduler.type == "none" or len(trials) < ENOUGH_FOR_RANKS:
        return []
    found = []
    final = [t.last(metric) for t in trials]
    for level in rung_levels(spec):
        values = [_value_at(trial, level, metric) for trial in trials]
        ranks = stats.rankdata(values if mode == "min" else [-v for v in values])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            rho = float(stats.spearmanr(values, final).statistic)
        found.append(
            {
                "samples": level,
                "trials": len(trials),
                "correlation": rho if math.isfinite(rho) else None,
                "best_rank": float(ranks[0]) / len(trials),
                "kept": 1 / spec.scheduler.reduction_factor,
            }
        )
    return found


def _value_at(trial: Trial, samples: int, metric: str) -> float:
    """The metric at the first report from `samples` on."""
    return float(next(r[metric] for r in trial.reports if r["samples"] >= samples))


def importance(book: Book, name: str) -> dict[str, float] | None:
    """Each setting's share in what explains the loss of an optimizer's complete trials.

    Functional ANOVA (Hutter et al. 2014) within one optimizer; None with too few trials.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    metric, mode = objective(book)
    space = SearchSpec.model_validate(book.spec).space
    trials = ranked(book, name)
    encoded = [(space.encode(t.chosen, [name]), t.last(metric)) for t in trials]
    known = [(params, value) for params, value in encoded if params]
    if len(known) < ENOUGH_FOR_IMPORTANCE:
        return None
    kinds = {
        key: _distribution(dimension)
        for key, dimension in space.dimensions(name)
        if isinstance(dimension, Range | Choices)
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    study.add_trials(
        optuna.trial.create_trial(params=params, distributions=kinds, value=value)
        for params, value in known
    )
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key.removeprefix(f"{name}."): float(share) for key, share in shares.items()}


def _distribution(dimension: Range | Choices) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    if dimension.log_from_one:
        return FloatDistribution(1 - dimension.high, 1 - dimension.low, log=True)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def stability(book: Book, name: str) -> dict[str, Any]:
    """How often an optimizer diverged, at which learning rates, and how its gradients jumped."""
    trials = [t for t in book.stage("search") if t.optimizer == name]
    diverged = [t for t in trials if t.state == "diverged"]
    jumps = []
    for trial in trials:
        norms = [r["grad_norm"] for r in trial.reports if r.get("grad_norm")]
        if norms:
            jumps.append(max(norms) / float(np.median(norms)))
    return {
        "diverged": len(diverged),
        "share": len(diverged) / len(trials) if trials else None,
        "lowest_diverged_lr": min((t.config["optimizer"]["lr"] for t in diverged), default=None),
        "largest_gradient_jump": max(jumps, default=None),
        "most_loss_spikes": max((t.last("loss_spikes") or 0 for t in trials), default=None),
    }
