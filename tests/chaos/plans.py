"""What a seed stands for: a short search with a spec drawn at random, and who is struck when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = str(Path(__file__).parent / "modules")
LR = {"low": 1e-3, "high": 1e-1, "log": True}
OPTIMIZERS = {"noted:Sgd": {"lr": LR, "momentum": 0.9}, "noted:Adam": {"lr": LR}, "adamw": {}}
# how often each is struck: where it is there, by a kill, and by being frozen for a while
KILLS = {"trial": 12, "driver": 3, "node": 1, "server": 3, "s3": 4, "host": 2}
FREEZES = {"trial": 2, "driver": 1, "node": 1, "server": 1, "s3": 1, "host": 1}
LONGEST_WAIT, LONGEST_PAUSE = 1.5, 5.0  # seconds before a strike, and of a service's absence
AT_THE_END = 0.6  # of the searches are struck once more, when they have written their last word


@dataclass(frozen=True)
class Strike:
    victim: str
    way: str  # kill, or freeze
    when: str  # at work: once a report has come since the last strike; any; end: of the search
    wait: float  # seconds from then on
    pause: float  # seconds until it is there again, or goes on
    lot: float  # which one of several processes


@dataclass(frozen=True)
class Plan:
    seed: int
    spec: dict[str, Any]
    storage: str | None  # folder, or s3
    server: bool  # MLflow has a server of its own
    host: bool  # a second host is there for trials
    pace: float  # seconds of a training step
    strikes: tuple[Strike, ...]


def plan(seed: int, strikes: int) -> Plan:
    draw = random.Random(seed)
    storage, server = draw.choice([None, "folder", "s3", "s3"]), draw.random() < 0.5
    host = storage is not None and draw.random() < 0.2  # nothing else is shared by hosts
    return Plan(
        seed,
        spec_of(draw, strikes),
        storage,
        server,
        host,
        draw.uniform(0.02, 0.06),
        tuple(strikes_of(draw, strikes, storage == "s3", server, host)),
    )


def spec_of(draw: random.Random, strikes: int) -> dict[str, Any]:
    """A spec: short trainings of something small, but of every kind."""
    points = {
        "dataset": {"type": "points", "shape": "moons", "examples": 200},
        "model": {"type": "mlp", "width": 8, "depth": 1},
        "quality": None,
    }
    images = {"model": {"type": "unet", "channels": 8, "multipliers": [1], "attention": False}}
    allocation = draw.choice(["adaptive", "equal"])
    samplers = ["tpe", "random", "qmc", "cmaes", *(["gp"] if allocation == "equal" else [])]
    workers = draw.choice([1, 1, 1, 2])
    names = draw.sample(sorted(OPTIMIZERS), draw.choice([2, 2, 3]))
    space: dict[str, Any] = {"optimizer": {name: OPTIMIZERS[name] for name in names}}
    if draw.random() < 0.3:
        space["batch_size"] = [8, 16]
    if draw.random() < 0.5:
        space["warmup"] = draw.choice([0.0, {"low": 0.0, "high": 0.1}, {"steps": [0, 4]}])
    spec = {
        "name": "chaos",
        "trial": {
            **draw.choice([points, points, points, images]),
            "batch_size": 8,
            "steps": draw.choice([48, 64]),
            "report_every": 8,
            "validation_examples": 16,
        },
        "space": space,
        "allocation": allocation,
        "scheduler": {"type": draw.choice(["asha", "asha", "hyperband", "median", "none"])},
        "sampler": {"type": draw.choice(samplers), "seed": draw.randrange(100)},
        "budget": {"trials": draw.randint(strikes // 2, strikes)},
        "resources": {"workers": workers, "concurrent": 1 if workers > 1 else draw.choice([1, 2])},
        "retries": 100,  # whoever is struck often is not at fault
        "code": [MODULES],
    }
    if spec["scheduler"]["type"] == "asha":
        spec["scheduler"]["grace_steps"] = draw.choice(["auto", None, 8])
    if draw.random() < 0.2 and spec["sampler"]["type"] in ("tpe", "random", "qmc"):
        spec["objective"] = [{"metric": "val_loss"}, {"metric": "optimizer_bytes"}]
    if draw.random() < 0.4:
        per = draw.choice(["search", "optimizer"])
        spec["confirm"] = {"per": per, "top": 1, "seeds": 2}
    return spec


def strikes_of(
    draw: random.Random, count: int, s3: bool, server: bool, host: bool
) -> list[Strike]:
    there = {"trial", "driver", "node"}
    there |= {
        name for name, is_there in (("s3", s3), ("server", server), ("host", host)) if is_there
    }
    ways = {(v, "kill"): n for v, n in KILLS.items()} | {
        (v, "freeze"): n for v, n in FREEZES.items()
    }
    ways = {(victim, way): often for (victim, way), often in ways.items() if victim in there}
    found = []
    for _ in range(count):
        ((victim, way),) = draw.choices(list(ways), list(ways.values()))
        when = draw.choice(["work", "any"])
        longest = LONGEST_WAIT if when == "work" else 4 * LONGEST_WAIT
        waits = draw.uniform(0, longest), draw.uniform(0, LONGEST_PAUSE)
        found.append(Strike(victim, way, when, *waits, draw.random()))
    if draw.random() < AT_THE_END:
        victim = draw.choice(["driver", "driver", *sorted(there & {"s3", "server"})])
        waits = draw.uniform(0, 4 * LONGEST_WAIT), draw.uniform(0, LONGEST_PAUSE)
        found.append(Strike(victim, "kill", "end", *waits, draw.random()))
    return found
