"""Samplers and schedulers on recorded curves: the live search's decisions, in virtual time."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from search.errors import BadInput, NoSearch
from search.forecast.curves import Curves, Landscape, read_csv, read_history
from search.forecast.curves_mlflow import read_mlflow
from search.forecast.play import play
from search.forecast.statistics import Outcome, summarize
from search.history.home import Home
from search.spec.loading import validate
from search.spec.spec import SearchSpec
from trainable.base.reading import Document

NEAR = 1.01  # within 1 % of the best known counts as found


def simulate(
    spec: SearchSpec, curves: Landscape, workers: int, limit: float = math.inf
) -> Outcome:
    """What a search on recorded curves comes to."""
    played = play(spec, curves, workers, limit)
    trace, trials = played.trace, played.book.trials.values()
    top = min(trials, key=lambda trial: curves.loss(trial.config, 1.0))
    near = (compute for compute, loss in trace if loss <= NEAR * curves.best)
    best = trace[-1][1] if trace else math.inf
    return Outcome(
        compute=played.compute,
        compute_to_1pct=next(near, math.inf),
        regret=best / curves.best - 1,
        kept=top.state == "complete",
        trace=trace,
    )


def replay(spec: SearchSpec, curves: Landscape, workers: int, seeds: int) -> list[Outcome]:
    """The same search with `seeds` different seeds of its sampler."""
    return [
        simulate(
            spec.model_copy(
                update={"sampler": spec.sampler.model_copy(update={"seed": spec.sampler.seed + s})}
            ),
            curves,
            workers,
        )
        for s in range(seeds)
    ]


def replay_recorded(
    home: Home,
    recorded: str,
    overrides: Sequence[str],
    workers: int,
    seeds: int,
    tracking: str | None = None,
) -> dict[str, Any]:
    """Replay on the curves of a CSV, or of an earlier search: here, or in MLflow at `tracking`.

    Raises:
        BadInput: there are no such curves, or an override is none of a spec.
    """
    curves = recorded_curves(home, recorded, tracking)
    given = curves.spec().model_dump(mode="json")
    spec = validate(Document("replay", given, {}), overrides)
    if len(spec.objectives) > 1:
        raise BadInput("objective: recorded curves hold one objective, not a list of them")
    if spec.budget.wall_clock or spec.budget.gpu_hours:
        raise BadInput("budget: recorded curves know no time, only trials; set budget.trials")
    outcomes = replay(spec.model_copy(update={"confirm": None}), curves, workers, seeds)
    return {
        **summarize(outcomes),
        "workers": workers,
        "seeds": seeds,
        "best_known": curves.best,
        "sampler": spec.sampler.type,
        "scheduler": spec.scheduler.type,
        "allocation": spec.allocation,
        "trials": spec.budget.trials,
        "interpolation": curves.interpolation(),
    }


def recorded_curves(home: Home, recorded: str, tracking: str | None) -> Curves:
    """Curves of a CSV, of a search of this home, or of one that only MLflow knows.

    Raises:
        BadInput: there are none.
    """
    if recorded.endswith(".csv"):
        return read_csv(Path(recorded))
    uri = tracking or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking is None:
        try:
            return read_history(home.find(recorded).history)
        except NoSearch:
            if uri is None:
                raise
    assert uri is not None
    return read_mlflow(uri, recorded)


def show_replay(console: Console, result: dict[str, Any]) -> None:
    """The table of a replay."""
    table = Table("", "interquartile mean", "95 % interval")
    rows = {
        "compute": "compute of the whole search, in full trainings",
        "compute_to_1pct": "compute until within 1 % of the best known",
        "regret": "regret of the best found, relative",
        "kept": "share of searches that kept the best they proposed",
        "found": "share of searches that came within 1 %",
    }
    for key, meaning in rows.items():
        value = result[key]
        table.add_row(
            meaning, f"{value['iqm']:.3f}", f"{value['low']:.3f} ... {value['high']:.3f}"
        )
    console.print(table)
    how, rates = result["interpolation"]["how"], result["interpolation"]["learning_rates"]
    said = [
        f"{result['trials']} trials of {result['sampler']} and {result['scheduler']}, allocation "
        f"{result['allocation']}; {result['seeds']} seeds, {result['workers']} workers, best "
        f"known loss {result['best_known']:.4f}.",
        f"Losses are interpolated: {how} "
        f"({', '.join(f'{name} has {count}' for name, count in rates.items())}).",
    ]
    if ignored := result["interpolation"]["ignored"]:
        said.append(f"Only the learning rate counts here. Ignored: {', '.join(ignored)}.")
    if left_out := result["interpolation"]["left_out"]:
        said.append(f"Left out, with fewer than two complete curves: {', '.join(left_out)}.")
    console.print("\n".join(said), highlight=False, markup=False)
