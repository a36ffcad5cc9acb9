"""What the trials say: numbers by optimizer, and the best trial."""

from __future__ import annotations

from statistics import median
from typing import Any

from search.engine.pareto import dominates, order, signed
from search.history.book import Book, Trial


def objectives(book: Book) -> list[tuple[str, str]]:
    """The metrics that are optimized, each with min or max; the first one leads."""
    given = book.spec["objective"]
    listed = given if isinstance(given, list) else [given]
    return [(one["metric"], one["mode"]) for one in listed]


def objective(book: Book) -> tuple[str, str]:
    """The metric that is optimized, the first one of several, and min or max."""
    return objectives(book)[0]


def ranked(book: Book, optimizer: str | None = None) -> list[Trial]:
    """Complete trials of the search, of one optimizer or all, the best first.

    Only complete trials are ranked: the loss at a rung is not comparable with that at the end.
    With several objectives the Pareto front comes first, the best by the first objective ahead.
    """
    trials = [
        trial
        for trial in book.stage("search")
        if trial.state == "complete" and optimizer in (None, trial.optimizer)
    ]
    best_first = order([trial.reports[-1] for trial in trials], objectives(book))
    return [trials[place] for place in best_first]


def front(book: Book, optimizer: str | None = None) -> list[Trial]:
    """The complete trials that no other one beats in all objectives, of an optimizer or of all."""
    found, points = list[Trial](), set[tuple[float, ...]]()
    for trial in ranked(book, optimizer):  # the front comes first
        point = tuple(signed(trial.reports[-1], objectives(book)))
        if any(dominates(other, point) for other in points):
            break
        found.append(trial)
        points.add(point)
    return found


def summary(trial: Trial | None) -> dict[str, Any] | None:
    """A trial in short."""
    if trial is None:
        return None
    config = trial.config
    return {
        "trial": trial.number,
        "optimizer": trial.optimizer,
        "val_loss": trial.last("val_loss"),
        "lr": config["optimizer"]["lr"],
        "config": config,
    }


def best(book: Book) -> Trial | None:
    """The best complete trial, if there is one."""
    return next(iter(ranked(book)), None)


def by_optimizer(book: Book) -> dict[str, dict[str, Any]]:
    """For each optimizer: trials by state, its best, its speed and its memory."""
    return {name: _one(book, name) for name in book.spec["space"]["optimizer"]}


def _one(book: Book, name: str) -> dict[str, Any]:
    trials = [trial for trial in book.stage("search") if trial.optimizer == name]
    states = [trial.state for trial in trials]
    speeds = [
        report["steps_per_second"]
        for trial in trials
        for report in trial.reports
        if report["step"]
    ]
    top = next(iter(ranked(book, name)), None)
    reported = [trial for trial in trials if trial.reports]
    return {
        "trials": len(trials),
        "complete": states.count("complete"),
        "pruned": states.count("pruned"),
        "diverged": states.count("diverged"),
        "failed": states.count("failed"),
        "best": summary(top),
        "steps_per_second": median(speeds) if speeds else None,
        "optimizer_bytes": _bytes(reported),
        "bytes_per_parameter": _bytes(reported, per_parameter=True),
        "samples": sum(trial.samples for trial in trials),
    }


def _bytes(trials: list[Trial], per_parameter: bool = False) -> float | None:
    """The most state that any of the trials kept; knobs such as momentum change it."""
    values = [
        trial.reports[-1]["optimizer_bytes"]
        / (trial.reports[-1]["parameters"] if per_parameter else 1)
        for trial in trials
    ]
    return max(values, default=None)


def spent(trial: Trial) -> list[float]:
    """Seconds of training at each report, validation and checkpoints left out."""
    clock, total, before = [], 0.0, 0
    for report in trial.reports:
        if report["steps_per_second"]:
            total += (report["step"] - before) / report["steps_per_second"]
        before = report["step"]
        clock.append(total)
    return clock


def seconds(trial: Trial) -> float:
    """Of training, up to the last report."""
    return spent(trial)[-1] if trial.reports else 0.0


def pareto(book: Book) -> dict[str, Any] | None:
    """The front of several objectives and what lies behind it; None with one objective."""
    aims = objectives(book)
    if len(aims) == 1:
        return None
    best = {trial.number for trial in front(book)}
    rows = [
        {
            "trial": trial.number,
            "optimizer": trial.optimizer,
            "values": {metric: trial.last(metric) for metric, _ in aims},
            "config": trial.config,
        }
        for trial in ranked(book)
    ]
    return {
        "objectives": [{"metric": metric, "mode": mode} for metric, mode in aims],
        "front": [row for row in rows if row["trial"] in best],
        "behind": [row for row in rows if row["trial"] not in best],
    }


def front_rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the front, the best by the first objective first."""
    metrics = [one["metric"] for one in found["objectives"]]
    columns = ["trial", *(f"{one['metric']} ({one['mode']})" for one in found["objectives"])]
    rows = [
        [f"{row['optimizer']}-{row['trial']}", *(_number(row["values"][m]) for m in metrics)]
        for row in found["front"]
    ]
    return columns, rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
