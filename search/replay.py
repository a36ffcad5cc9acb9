"""Samplers and schedulers on recorded curves: the live search's decisions, in virtual time."""

from __future__ import annotations

import heapq
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from search.curves import Curves, Landscape, read_csv, read_history
from search.curves_mlflow import read_mlflow
from search.engine import Engine
from search.errors import BadInput, NoSearch
from search.history import Book, History, Trial
from search.home import Home
from search.spec import SearchSpec, validate
from trainable.reading import Document

NEAR = 1.01  # within 1 % of the best known counts as found
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Outcome:
    """What one replayed search came to. Compute is counted in full trainings."""

    compute: float  # workers x time until the search ended
    compute_to_1pct: float  # until a complete trial was within 1 % of the best known; may be inf
    regret: float  # of the best complete trial, relative to the best known
    kept: bool  # whether the best of all proposed was run to its end
    trace: tuple[tuple[float, float], ...]  # (compute, loss) of each new best complete trial


class Clock:
    """Virtual time, in units of one full training."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Played:
    """A whole search in virtual time."""

    book: Book
    compute: float  # workers x time until it ended, in full trainings
    trace: tuple[tuple[float, float], ...]  # as in an Outcome


def play(spec: SearchSpec, curves: Landscape, workers: int, limit: float = math.inf) -> Played:
    """A search on given losses, with `workers` trials at a time, until `limit` is spent."""
    clock = Clock()
    history = History(None, clock)
    history.write("start", search="replay-000000", spec={}, format=1)
    engine = Engine(spec, history)
    queue: list[tuple[float, int, int]] = []  # (time, trial, samples) of the reports to come
    trace: list[tuple[float, float]] = []

    def work(trial: Trial) -> None:
        target = next_target(engine, trial)
        time = (target - trial.samples) / trial.full_samples
        heapq.heappush(queue, (clock.now + time, trial.number, target))

    def fill() -> None:
        while len(engine.active) < workers and (trial := engine.next()) is not None:
            engine.begin(trial.number)
            work(trial)

    fill()
    while queue and queue[0][0] * workers <= limit:
        clock.now, number, samples = heapq.heappop(queue)
        trial = engine.book.trials[number]
        loss = curves.loss(trial.config, samples / trial.full_samples)
        step = samples // trial.config["batch_size"]
        if engine.report(number, {"samples": samples, "step": step, "val_loss": loss}):
            work(trial)
        elif trial.state == "complete" and (not trace or loss < trace[-1][1]):
            trace.append((clock.now * workers, loss))
        fill()
    return Played(engine.book, clock.now * workers, tuple(trace))


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


def next_target(engine: Engine, trial: Trial) -> int:
    """Samples at the next report of a trial: its next rung, or the end."""
    levels = (level for level in engine.rung_levels(trial) if level > trial.samples)
    return min([trial.full_samples, *levels])


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
