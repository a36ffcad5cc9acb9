"""Recorded training curves, to try samplers and schedulers on before any GPU is used."""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from search.engine.analysis import objective
from search.errors import BadInput
from search.history.log import read_book
from search.spec.checks import RECORDED
from search.spec.spec import SearchSpec

COLUMNS = ("optimizer", "lr", "step", "total_steps", "val_ema")
POSITIVE = ("lr", "step", "total_steps")
SETTING = ("dataset", "schedule", "total_steps", "batch", "warmup", "clip", "wd")
MANY = 10  # faults of a file that are told
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
    ignored: tuple[str, ...] = ()  # what differed between the recorded trials besides
    left_out: tuple[str, ...] = ()  # optimizers with too few curves
    own: dict[str, Any] = field(default_factory=dict)  # keys of the spec that was recorded

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
        own = dict(self.own)
        space |= own.pop("space", {})
        return SearchSpec.model_validate(defaults | own | keys)

    def interpolation(self) -> dict[str, Any]:
        """How a loss is made of what was recorded, and what is left aside: for people."""
        return {
            "how": "linear in log lr between the recorded learning rates of an optimizer, and in "
            "the logarithm of the step; the nearest recorded value outside of them",
            "learning_rates": {name: len(rates) for name, rates in self.by_optimizer.items()},
            "ignored": list(self.ignored),
            "left_out": list(self.left_out),
        }


def read_csv(path: Path) -> Curves:
    """Curves from a CSV: one row for each point, of the setting that has the most rows.

    A loss that is empty or not finite marks a training that diverged: its last one holds.

    Raises:
        BadInput: the file can't be read, or lacks a column; or a line for each fault in it.
    """
    lines = _lines(path)
    settings = Counter(tuple(row.get(key) for key in SETTING) for _, row in lines)
    common = settings.most_common(1)[0][0]
    points: dict[str, dict[float, dict[float, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    reached: dict[tuple[str, float], tuple[float, int]] = {}  # share and line of the last row
    for number, row in lines:
        if tuple(row.get(key) for key in SETTING) != common:
            continue
        name, lr, loss = row["optimizer"], float(row["lr"]), float(row["val_ema"] or "nan")
        share = float(row["step"]) / float(row["total_steps"])
        if math.isfinite(loss):
            points[name][lr][share].append(loss)
        ends = share if math.isfinite(loss) else 1.0
        reached[name, lr] = max(reached.get((name, lr), (0.0, 0)), (ends, number))
    if unfinished := [
        f"{path}:{number}: step: the curve of {name} at lr {lr:g} ends at {share:.0%} of "
        "total_steps; only whole ones can be replayed"
        for (name, lr), (share, number) in reached.items()
        if share < 1
    ]:
        raise BadInput(*unfinished[:MANY])
    rates = {
        name: {
            lr: sorted((share, sum(v) / len(v)) for share, v in shares.items())
            for lr, shares in found.items()
        }
        for name, found in points.items()
    }
    columns = dict(zip(SETTING, zip(*settings, strict=True), strict=True))
    differs = tuple(name for name, values in columns.items() if len(set(values)) > 1)
    return usable(rates, str(path), tuple(f"other values of {name}" for name in differs))


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their line numbers, each value seen to be what its column holds."""
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: can't read it: {error}") from error
    if missing := [name for name in COLUMNS if not rows or name not in rows[0][1]]:
        raise BadInput(f"{path}: lacks the columns {', '.join(missing)}")
    found = [
        f"{path}:{number}: {column}: {fault}"
        for number, row in rows
        for column in COLUMNS
        if (fault := _fault(column, row[column], row))
    ]
    if found:
        raise BadInput(*found[:MANY])
    return rows


def _fault(column: str, text: str | None, row: Mapping[str, str | None]) -> str | None:
    """What is wrong with a value of a CSV, if something is."""
    if text is None or (not text and column != "val_ema"):
        return "the row has no value for it"
    if column == "optimizer" or not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return f"expected a number, got '{text}'"
    if column in POSITIVE and not 0 < value < math.inf:
        return f"expected a number above 0, got {text}"
    total = row["total_steps"]
    if column == "step" and total and not _fault("total_steps", total, row):
        return f"{text} is beyond total_steps, {total}" if value > float(total) else None
    return None


def read_history(path: Path) -> Curves:
    """Curves of the complete trials of an earlier search, by their learning rates.

    Of several at one learning rate the best counts. A replay takes the search's budget of
    trials, its allocation, scheduler, steps and warmups, unless told otherwise.

    Raises:
        BadInput: no optimizer has two complete trials.
    """
    book = read_book(path)
    (metric, mode), spec = objective(book), book.spec
    if mode == "max":
        raise BadInput(f"{book.id}: its objective is maximized; a replay looks for the least")
    rates: dict[str, dict[float, Curve]] = {name: {} for name in spec["space"]["optimizer"]}
    values: dict[str, set[str]] = defaultdict(set)
    for trial in book.stage("search"):
        if trial.state == "complete":
            full, lr = trial.samples, trial.config["optimizer"]["lr"]
            curve = [(report["samples"] / full, report[metric]) for report in trial.reports]
            known = rates[trial.optimizer].get(lr)
            if known is None or curve[-1][1] < known[-1][1]:
                rates[trial.optimizer][lr] = curve
            for name, value in trial.chosen.items():
                values[name].add(str(value))
    ignored = [
        name
        for name, found in values.items()
        if len(found) > 1 and name != "optimizer" and not name.endswith(".lr")
    ]
    own = {
        "budget": {"trials": spec["budget"]["trials"]},
        "allocation": spec["allocation"],
        "scheduler": spec["scheduler"],
        "trial": {key: spec["trial"][key] for key in ("steps", "batch_size", "report_every")},
        "space": {"warmup": spec["space"]["warmup"]},
    }
    return usable(rates, book.id, tuple(ignored), own)


def usable(
    rates: dict[str, dict[float, Curve]],
    search: str,
    ignored: tuple[str, ...] = (),
    own: dict[str, Any] | None = None,
) -> Curves:
    """The curves of optimizers that have more than one.

    Raises:
        BadInput: there is no such optimizer.
    """
    found = {name: curves for name, curves in rates.items() if len(curves) > 1}
    if not found:
        has = ", ".join(f"{len(curves)} of {name}" for name, curves in rates.items()) or "none"
        raise BadInput(
            f"{search}: a replay needs complete trainings of an optimizer at two learning rates "
            f"or more, this has {has}; the more, the better: record some with scheduler.type none"
        )
    return Curves(found, ignored, tuple(name for name in rates if name not in found), own or {})


def at(curve: Curve, share: float) -> float:
    """A curve's value at a share of the budget."""
    return interpolate([(math.log(s), value) for s, value in curve], math.log(share))


def interpolate(points: list[tuple[float, float]], x: float) -> float:
    """Linear between points with ascending x; flat outside."""
    return float(np.interp(x, [point[0] for point in points], [point[1] for point in points]))
