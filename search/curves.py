"""Recorded training curves, to try samplers and schedulers on before any GPU is used."""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from search.analysis import objective
from search.errors import BadInput
from search.history import read_book
from search.spec import SearchSpec

COLUMNS = ("optimizer", "lr", "step", "total_steps", "val_ema")
SETTING = ("dataset", "schedule", "total_steps", "batch", "warmup", "clip", "wd")
RECORDED = "recorded:"  # before an optimizer's name: its learning rate is all that differs
Curve = list[tuple[float, float]]  # (share of the budget, loss), ascending


class Landscape(Protocol):
    """What a replay trains on: a loss for every config, at every share of the budget."""

    @property
    def best(self) -> float:
        """The best final loss that is known."""
        ...

    def loss(self, config: Mapping[str, Any], share: float) -> float:
        """The loss of a trial's config at a share of the budget in (0, 1]."""
        ...


@dataclass(frozen=True)
class Curves:
    """Loss curves over learning rates, for each optimizer.

    Between recorded learning rates the loss is interpolated linearly in log lr at equal shares of
    the budget, and between recorded shares linearly in the logarithm of the share; outside, the
    nearest recorded value holds. Curves of several seeds at one learning rate are averaged.
    """

    by_optimizer: dict[str, dict[float, Curve]]

    @property
    def best(self) -> float:
        """The best final loss that is known: the least that was recorded."""
        return min(c[-1][1] for rates in self.by_optimizer.values() for c in rates.values())

    def loss(self, config: Mapping[str, Any], share: float) -> float:
        """The loss of a config's optimizer and learning rate at a share of the budget."""
        optimizer = config["optimizer"]
        rates = self.by_optimizer[optimizer["type"].removeprefix(RECORDED)]
        points = [(math.log(rate), at(curve, share)) for rate, curve in sorted(rates.items())]
        return interpolate(points, math.log(optimizer["lr"]))

    def spec(self, **keys: Any) -> SearchSpec:
        """A search over what was recorded: optimizers and learning rates; all else is fixed."""
        space = {
            "optimizer": {
                RECORDED + name: {"lr": {"low": min(rates), "high": max(rates), "log": True}}
                for name, rates in self.by_optimizer.items()
            },
            "warmup": 0.05,
            "lr_schedule": "constant",
            "clip_norm": 1.0,
        }
        trial = {"steps": 512, "batch_size": 32, "report_every": 64}
        defaults = {"name": "replay", "baselines": "none", "space": space, "trial": trial}
        return SearchSpec.model_validate(defaults | keys)


def read_csv(path: Path) -> Curves:
    """Curves from a CSV: one row for each point, of the setting that has the most rows.

    Raises:
        BadInput: the file can't be read, or lacks a column.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't read it: {error}") from error
    if missing := [name for name in COLUMNS if not rows or name not in rows[0]]:
        raise BadInput(f"{path}: lacks the columns {', '.join(missing)}")
    settings = [tuple(row.get(key) for key in SETTING) for row in rows]
    common = Counter(settings).most_common(1)[0][0]
    points: dict[str, dict[float, dict[float, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row, setting in zip(rows, settings, strict=True):
        value = float(row["val_ema"] or "nan")
        if setting == common and math.isfinite(value):
            share = float(row["step"]) / float(row["total_steps"])
            points[row["optimizer"]][float(row["lr"])][share].append(value)
    return Curves(
        {
            name: {
                lr: sorted((share, sum(v) / len(v)) for share, v in shares.items())
                for lr, shares in rates.items()
            }
            for name, rates in points.items()
        }
    )


def read_history(path: Path) -> Curves:
    """Curves of the complete trials of an earlier search, by their learning rates.

    Raises:
        BadInput: no optimizer has two complete trials.
    """
    book = read_book(path)
    metric = objective(book)[0]
    rates: dict[str, dict[float, Curve]] = defaultdict(dict)
    for trial in book.stage("search"):
        if trial.state == "complete":
            full = trial.samples
            rates[trial.optimizer][trial.config["optimizer"]["lr"]] = [
                (report["samples"] / full, report[metric]) for report in trial.reports
            ]
    return usable(rates, book.id)


def usable(rates: dict[str, dict[float, Curve]], search: str) -> Curves:
    """The curves of optimizers that have more than one.

    Raises:
        BadInput: there is no such optimizer.
    """
    found = {name: curves for name, curves in rates.items() if len(curves) > 1}
    if not found:
        raise BadInput(f"{search}: needs two complete trials of an optimizer to replay")
    return Curves(found)


def at(curve: Curve, share: float) -> float:
    """A curve's value at a share of the budget."""
    return interpolate([(math.log(s), value) for s, value in curve], math.log(share))


def interpolate(points: list[tuple[float, float]], x: float) -> float:
    """Linear between points with ascending x; flat outside."""
    xs = [point[0] for point in points]
    right = bisect_left(xs, x)
    if right == 0:
        return points[0][1]
    if right == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
