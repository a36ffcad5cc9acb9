"""What the searches are compared on: recorded curves, and synthetic ones that hold or cross.

Every problem has an instance for each seed, the same for all methods.
"""

from __future__ import annotations

import csv
import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.engine.designs import mix
from search.forecast.curves import Curve, at, interpolate, read_csv
from search.spec.checks import RECORDED
from search.spec.dimensions import Choices, Range
from search.spec.priors import PUBLISHED
from search.spec.space import Space, settings

HERE = Path(__file__).parent
NEAR = 1.01  # within 1 % of the best known counts as found
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """A space, and the loss of every config in it at every share of its budget."""

    space: Space
    best: float  # the best final loss that is known
    of: Callable[[Config, float], float]
    published: tuple[dict[str, Any], ...]  # one default for each optimizer, by dimension

    def loss(self, config: Config, share: float) -> float:
        """The loss of a trial's config at a share of the budget in (0, 1]."""
        return self.of(config, share)

    @property
    def names(self) -> list[str]:
        return list(self.space.optimizer)

    @property
    def baselines(self) -> list[dict[str, Any]]:
        """The published defaults; one that is as good as the answer already is left out."""
        return [b for b in self.published if self.of(settings(b), 1.0) > NEAR * self.best]


def digits8(seed: int, widen: float = 0.0) -> Problem:
    """Curves of a U-Net on digits, over optimizers and learning rates.

    With `widen`, each range is wider by so many decades, at the lower or the upper end as the
    seed wills, so that the best learning rates don't lie in the middle.
    """
    curves = read_csv(HERE / "digits8.csv")
    ends: dict[str, Any] = {}
    for number, (name, rates) in enumerate(curves.by_optimizer.items()):
        down = widen * random.Random(mix(seed, number)).random()
        low, high = min(rates) / 10**down, max(rates) * 10 ** (widen - down)
        ends[RECORDED + name] = {"lr": {"low": low, "high": high, "log": True}}
    space = Space.model_validate(
        {"optimizer": ends, "warmup": 0.05, "lr_schedule": "constant", "clip_norm": 1.0}
    )
    return Problem(space, curves.best, curves.loss, published(space))


def recorded(file: str) -> Problem:
    """Curves of one search over a grid, as record_curves.py wrote them.

    Losses are interpolated linearly in log lr between trials that are equal in all else.
    """
    cells: dict[tuple[str, float, str], dict[float, Curve]] = defaultdict(
        lambda: defaultdict(list)
    )
    with (HERE / file).open(newline="") as rows:
        for row in csv.DictReader(rows):
            cell = row["optimizer"], float(row["warmup"]), row["lr_schedule"]
            cells[cell][float(row["lr"])].append((float(row["share"]), float(row["val_loss"])))

    def loss(config: Config, share: float) -> float:
        optimizer = config["optimizer"]
        name = optimizer["type"].removeprefix(RECORDED)
        schedule = "constant" if name.startswith("schedulefree") else config["lr_schedule"]
        rates = cells[name, config["warmup"], schedule]
        points = [(math.log(rate), at(curve, share)) for rate, curve in sorted(rates.items())]
        return interpolate(points, math.log(optimizer["lr"]))

    ranges: dict[str, list[float]] = defaultdict(list)
    for (name, _, _), rates in cells.items():
        ranges[name] += rates
    space = Space.model_validate(
        {
            "optimizer": {
                RECORDED + name: {"lr": {"low": min(rates), "high": max(rates), "log": True}}
                for name, rates in ranges.items()
            },
            "warmup": sorted({warmup for _, warmup, _ in cells}),
            "lr_schedule": sorted({schedule for _, _, schedule in cells}),
            "clip_norm": 1.0,
        }
    )
    best = min(curve[-1][1] for rates in cells.values() for curve in rates.values())
    return Problem(space, best, loss, published(space))


def published(space: Space) -> tuple[dict[str, Any], ...]:
    """The published default of each optimizer, as near as the space has it."""
    found = []
    for name in space.optimizer:
        plain = name.removeprefix(RECORDED)
        given = PUBLISHED["schedulefree_adamw" if plain == "sfadamw" else plain]
        chosen: dict[str, Any] = {"optimizer": name}
        for key, dimension in space.dimensions(name):
            knob = key.rpartition(".")[2]
            value = given["optimizer"].get(knob, given.get(knob, 0.0))
            if isinstance(dimension, Range):
                chosen[key] = min(max(value, dimension.low), dimension.high)
            elif isinstance(dimension, Choices):
                chosen[key] = _nearest(value, dimension.values)
            else:
                chosen[key] = dimension.value
        found.append(chosen)
    return tuple(found)


def _nearest(value: Any, choices: tuple[Any, ...]) -> Any:
    if isinstance(value, float) and all(isinstance(choice, float) for choice in choices):
        return min(choices, key=lambda choice: abs(choice - value))
    return value if value in choices else choices[0]


START = 1.0  # the loss before training
SCHEDULES, CLIPS = ("constant", "linear", "cosine", "wsd"), (None, 0.1, 1.0, 5.0)


@dataclass(frozen=True)
class Synthetic:
    """Four optimizers, each with its own learning rate and momentum, and what they share.

    The final loss is a bowl in log lr and in log (1 - momentum) with its bottom somewhere else
    for each seed, plus what warmup, schedule and clipping add. On the way there a curve falls
    like a power of the share, with 1 % of noise that fades to the end. Where ranks
    `cross`, a learning rate above the best one, an optimizer that ends badly and a constant
    schedule are faster at first, and warmup is slower.
    """

    seed: int
    cross: bool

    def problem(self) -> Problem:
        draw = random.Random(mix(self.seed, 4711))
        names = [f"{RECORDED}o{number}" for number in range(4)]
        gaps = draw.sample([0.0, 0.01, 0.04, 0.12], 4)
        lows = [10 ** draw.uniform(-5, -3) for _ in names]
        best_lr = [low * 10 ** draw.uniform(0.5, 2.5) for low in lows]
        best_rest = [10 ** draw.uniform(-2, -0.7) for _ in names]  # 1 - momentum
        schedule = dict(zip(SCHEDULES, draw.sample([0.0, 0.002, 0.005, 0.01], 4), strict=True))
        clip = dict(zip(CLIPS, draw.sample([0.0, 0.0, 0.002, 0.005], 4), strict=True))
        best_warmup = draw.uniform(0.0, 0.05)
        bottom = 0.2

        def final(config: Config) -> float:
            index, optimizer = names.index(config["optimizer"]["type"]), config["optimizer"]
            off = math.log10(optimizer["lr"] / best_lr[index])
            rest = math.log10((1 - optimizer["momentum"]) / best_rest[index])
            warmup = abs(config["warmup"] - best_warmup) / 0.05
            more = gaps[index] + 0.12 * off**2 + 0.01 * rest**2 + 0.004 * warmup
            return bottom * (
                1 + more + schedule[config["lr_schedule"]] + clip[config["clip_norm"]]
            )

        def speed(config: Config) -> float:
            index, optimizer = names.index(config["optimizer"]["type"]), config["optimizer"]
            off = math.log10(optimizer["lr"] / best_lr[index])
            decays = config["lr_schedule"] != "constant"
            return float(10 ** (0.3 * off + gaps[index] - 0.1 * decays))

        def loss(config: Config, share: float) -> float:
            end = final(config)
            if not self.cross:
                return (end + (START - end) * left(share)) * noise(config, share)
            done = speed(config) * max(share - 1.5 * config["warmup"] * (1 - share), 0.0)
            gone = (left(done) - left(speed(config))) / (1 - left(speed(config)))
            return (end + (START - end) * max(gone, 0.0)) * noise(config, share)

        space = Space.model_validate(
            {
                "optimizer": {
                    name: {
                        "lr": {"low": low, "high": 1000 * low, "log": True},
                        "momentum": {"low": 0.7, "high": 0.995, "log_from_one": True},
                    }
                    for name, low in zip(names, lows, strict=True)
                },
                "warmup": {"low": 0.0, "high": 0.05},
                "lr_schedule": list(SCHEDULES),
                "clip_norm": list(CLIPS),
            }
        )
        defaults = tuple(
            {
                "optimizer": name,
                f"{name}.lr": min(max(lr * 10 ** draw.uniform(-1.5, 0.5), low), 1000 * low),
                f"{name}.momentum": 0.9,
                "warmup": 0.05,
                "lr_schedule": "cosine",
                "clip_norm": 1.0,
            }
            for name, low, lr in zip(names, lows, best_lr, strict=True)
        )
        return Problem(space, bottom, loss, defaults)


def noise(config: Config, share: float) -> float:
    """What is left to chance: a factor that is always the same for the same config and share."""
    text = repr((sorted(config["optimizer"].items()), config["warmup"], share))
    return 1 + 0.01 * (1 - share) * random.Random(text).gauss(0, 1)


def left(share: float) -> float:
    """How much of the way to the final loss is left: a power law, 1 at 0 and 0 at 1."""
    offset = 0.02
    return (1 / (share + offset) - 1 / (1 + offset)) / (1 / offset - 1 / (1 + offset))


PROBLEMS: dict[str, tuple[str, Callable[[int], Problem]]] = {
    "digits8": ("U-Net on digits, 8 optimizers x lr", digits8),
    "digits8-wide": (
        "the same, ranges two decades wider, the best off centre",
        lambda seed: digits8(seed, widen=2.0),
    ),
    "table": ("MLP on a table, 5 optimizers x lr", lambda seed: recorded("table.csv")),
    "hold": ("synthetic, early ranks hold", lambda seed: Synthetic(seed, False).problem()),
    "cross": ("synthetic, early ranks cross", lambda seed: Synthetic(seed, True).problem()),
}
