"""What the trials of a search tell beside their ranking: learning rates, luck, early stopping.

Everything here is within one optimizer or about the search itself. What an optimizer's choice is
worth is for the confirm stage to say: importances computed over a search that favours the early
leaders say nothing about it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaln

from search.engine.analysis import objective, ranked
from search.engine.asha import Asha, Results
from search.engine.pareto import better
from search.engine.scheduler import rung_levels
from search.history.book import Book
from search.spec.shelves import SCHEDULERS
from search.spec.space import distributions
from search.spec.spec import SearchSpec

BASIN = 0.05  # a learning rate belongs to the basin if its loss is within this of the best
ENOUGH_FOR_EDGE = 3  # learning rates that were tried
EACH = 100  # trials up to which a curve has a point for each
ENOUGH_FOR_IMPORTANCE = 10  # complete trials of one optimizer
MOST_FOR_IMPORTANCE = 500  # its cost grows with the trials, and what it finds hardly
ENOUGH_FOR_RANKS = 5  # trials that went all the way


def learning_rates(book: Book, name: str) -> dict[str, Any]:
    """The best learning rate of an optimizer, the basin around it, and if it is the last tried."""
    metric = objective(book)[0]
    trials = ranked(book, name)
    space = SearchSpec.model_validate(book.spec).space.optimizer[name]["lr"]
    ends = [float(end) for end in space.ends if isinstance(end, int | float)]
    tried = {
        trial.config["optimizer"]["lr"]
        for trial in book.stage("search")
        if trial.optimizer == name and (trial.reports or trial.state == "diverged")
    }
    content: dict[str, Any] = {"range": [min(ends), max(ends)], "best": None, "basin": None}
    content["tried"] = len(tried)
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
    return content | {"best": lr, "basin": [min(near), max(near)], "edge": edge(tried, lr)}


def edge(tried: set[float], best: float) -> str | None:
    """low or high, if the best is the smallest or the largest of three or more."""
    if len(tried) < ENOUGH_FOR_EDGE:
        return None
    return "low" if best <= min(tried) else "high" if best >= max(tried) else None


def expected_best(book: Book, name: str) -> dict[str, Any] | None:
    """The best value to expect from k of an optimizer's trials drawn at random, k = 1, 2, ...

    Dodge et al. 2019 (Show Your Work), without replacement. It has no band: a bootstrap of a
    minimum fails at its end (Tang et al. 2020, arXiv 2004.13705). A trial that was stopped early
    counts with its last value, a diverged one with the worst.
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
    counts = counts_to(len(filled))
    cost = float(np.mean([t.samples for t in trials])) / full
    return {
        "trials": counts.tolist(),
        "full_trainings": (counts * cost).tolist(),
        "mean": best_of(filled, counts, mode).tolist(),
    }


def counts_to(trials: int) -> np.ndarray:
    """1, 2, 3, ... to a number of trials; beyond EACH they come in growing steps."""
    wider = np.geomspace(EACH, trials, EACH) if trials > EACH else np.empty(0)
    return np.unique(np.append(np.arange(1, min(EACH, trials) + 1), wider.round())).astype(int)


def best_of(values: np.ndarray, counts: np.ndarray, mode: str = "min") -> np.ndarray:
    """E[best of k of the n values, drawn without replacement], for each k of the counts.

    Values are (..., n), what comes is (..., counts). The i-th best (from 0) is the best of k with
    the probability C(n - 1 - i, k - 1) / C(n, k).
    """
    ordered, n = np.sort(values), values.shape[-1]
    ordered = ordered if mode == "min" else ordered[..., ::-1]
    k, worse = counts[:, None], n - 1 - np.arange(n)
    with np.errstate(invalid="ignore"):  # of -1 things and fewer; those places count nothing
        log_weights = _log_choose(worse, k - 1) - _log_choose(n, k)
    weights = np.where(worse >= k - 1, np.exp(log_weights), 0.0)
    best: np.ndarray = ordered @ weights.T
    return best


def _log_choose(n: Any, k: Any) -> Any:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def luck_of(expected: dict[str, Any] | None) -> float | None:
    """How much worse the best would be with half as many trials, as a share: the search's luck."""
    if expected is None or not expected["mean"][-1]:
        return None
    counts, means = expected["trials"], expected["mean"]
    half = float(np.interp(counts[-1] / 2, counts, means))
    return float(abs(half - means[-1]) / abs(means[-1]))


def rungs(book: Book) -> list[dict[str, Any]]:
    """For each rung: how well ranks there agree with those at the end, and if it was overruled.

    With `equal`, of each optimizer by itself (`optimizers` names it), since its trials compete
    with no others. The correlation is the engine's own: corrected for who was let on, over all
    that got there (see search/engine/correlation.py). Where it is `overruled`, the rung at last
    held none back, since its ranks were seen to mislead. `best_rank` is the winner's rank at the
    rung among all that got there, as a share: above the share that a rung keeps, it came through
    by luck.
    """
    spec = SearchSpec.model_validate(book.spec)
    if spec.allocation == "adaptive":
        return _rungs_of(book, spec, None)
    return [row for name in spec.optimizers for row in _rungs_of(book, spec, name)]


def _rungs_of(book: Book, spec: SearchSpec, name: str | None) -> list[dict[str, Any]]:
    trials = [t for t in book.stage("search") if name in (None, t.optimizer)]
    done, results = ranked(book, name), Results(*spec.aims[0])
    if len(done) < ENOUGH_FOR_RANKS:
        return []
    rule = Asha(rung_levels(spec), spec.scheduler.reduction_factor, results, measured=True)
    measures = SCHEDULERS[spec.scheduler.type].measures and spec.scheduler.grace_steps == "auto"
    first = rule.first_deciding(trials) if measures else 0
    found: list[dict[str, Any]] = []
    for index, worth in enumerate(rule.worth(trials)):
        here = [v for t in trials if (v := results.at(t, rule.rungs, index)) is not None]
        best = results.at(done[0], rule.rungs, index)
        place = None if best is None else sum(value <= best for value in here) / len(here)
        found.append(
            {
                "optimizers": [] if name is None else [name],
                "samples": rule.rungs[index],
                "trials": len(here),
                "correlation": worth,
                "best_rank": place,
                "kept": 1 / spec.scheduler.reduction_factor,
                "overruled": index < first,
            }
        )
    return found


def importance(book: Book, name: str) -> dict[str, float] | None:
    """Each setting's share in what explains the loss of an optimizer's complete trials.

    Functional ANOVA (Hutter et al. 2014) within one optimizer; None with too few trials.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    metric, mode = objective(book)
    space = SearchSpec.model_validate(book.spec).space
    trials = ranked(book, name)
    trials = trials[
        :: 1 + len(trials) // MOST_FOR_IMPORTANCE
    ]  # evenly, from the best to the worst
    encoded = [(space.encode(t.chosen, [name]), t.last(metric)) for t in trials]
    known = [(params, value) for params, value in encoded if params]
    if len(known) < ENOUGH_FOR_IMPORTANCE:
        return None
    kinds = distributions(space, name, [name])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    study.add_trials(
        optuna.trial.create_trial(params=params, distributions=kinds, value=value)
        for params, value in known
    )
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key.removeprefix(f"{name}."): float(share) for key, share in shares.items()}


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
