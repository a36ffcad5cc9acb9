"""Histories of so many trials, as a search with ASHA leaves them midway, for measurements."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.engine.scheduler import rung_levels
from search.history.log import FORMAT
from search.spec.dimensions import Range, between
from search.spec.spec import SearchSpec

OPTIMIZERS = ["adam", "adamw", "sgd", "rmsprop"]
TRIAL = {
    "model": {"type": "unet", "channels": 8, "multipliers": [1], "attention": False},
    "batch_size": 64,
    "steps": 1600,
    "report_every": 40,
    "validation_examples": 16,
}
DIVERGED = 0.1  # share of the trials


def spec_of(trials: int, sampler: str = "random", several: bool = False) -> SearchSpec:
    """A search of four optimizers, by ASHA, with one objective or two."""
    objectives = [{"metric": "val_loss"}, *([{"metric": "optimizer_bytes"}] if several else [])]
    keys: dict[str, Any] = {
        "space": {"optimizer": OPTIMIZERS},
        "budget": {"trials": trials},
        "baselines": "none",
        "objective": objectives,
        "sampler": {"type": sampler},
    }
    return SearchSpec.model_validate({"name": "big", "trial": TRIAL} | keys)


def metrics(draw: random.Random, step: int, loss: float) -> dict[str, Any]:
    """What a trial reports, with all that a real one does."""
    quartiles = {f"val_loss_q{q}": loss * (1.3 - q / 10) for q in range(1, 5)}
    return {
        "step": step,
        "samples": step * TRIAL["batch_size"],
        "train_loss": loss * 1.1,
        "grad_norm": draw.random(),
        "clipped": draw.random(),
        "loss_spikes": 0,
        "update_ratio": draw.random() / 1000,
        "lr": draw.random() / 1000,
        "val_loss": loss,
        **quartiles,
        "weights": "raw",
        "steps_per_second": 9 + draw.random(),
        "validation_seconds": draw.random(),
        "parameters": 143_281,
        "optimizer_bytes": draw.choice([573_124, 1_146_248]),
        "peak_memory_bytes": 530_239_488,
        "diverged_at": None,
    }


def drawn(draw: random.Random, spec: SearchSpec, name: str) -> dict[str, Any]:
    """A config of an optimizer, by dimension."""
    chosen: dict[str, Any] = {"optimizer": name}
    for key, dimension in spec.space.dimensions(name):
        inside = isinstance(dimension, Range)
        chosen[key] = (
            between(dimension, draw.random()) if inside else draw.choice(list(dimension.ends))
        )
    return chosen


def events(trials: int, spec: SearchSpec, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The events of such a history."""
    draw, time = random.Random(seed), 1_700_000_000_000
    levels, steps = (
        [level // spec.trial.batch_size for level in rung_levels(spec)],
        spec.trial.steps,
    )
    about = {"spec": spec.model_dump(mode="json"), "origin": {}}
    yield {"event": "start", "time": time, "search": "big-000000", "format": FORMAT, **about}
    configs = {name: spec.resolve(drawn(draw, spec, name)) for name in OPTIMIZERS}
    for number in range(trials):
        name, rank = OPTIMIZERS[number % len(OPTIMIZERS)], draw.random()
        chosen = drawn(draw, spec, name)
        config = configs[name].model_dump(mode="json")
        time += 1000
        asked = {"stage": "search", "chosen": chosen, "config": config, "baseline": False}
        yield {"event": "ask", "time": time, "trial": number, **asked}
        yield {"event": "begin", "time": time + 1, "trial": number}
        about = {"trial": number, "time": time + 2}
        if draw.random() < DIVERGED:
            found = metrics(draw, 40, 1.0) | {"diverged_at": 33}
            del found["val_loss"]
            yield {"event": "report", **about, "metrics": found}
            yield {"event": "end", **about, "state": "diverged", "why": "", "again": False}
            continue
        reached = (place for place in range(len(levels)) if rank > 2.0 ** -(place + 1))
        last = next((levels[place] for place in reached), steps)
        at = sorted({*range(40, last, 40), *(level for level in levels if level <= last), last})
        for step in at:
            found = metrics(draw, step, 0.15 + 0.1 * rank + 8 / step)
            yield {"event": "report", **about, "metrics": found}
            if step in levels and step != last:
                yield {"event": "promote", **about, "full": False}
        state = "complete" if last == steps else draw.choice(["paused", "pruned"])
        yield {"event": "end", **about, "state": state, "why": None, "again": False}


def write(trials: int, spec: SearchSpec, path: Path) -> None:
    with path.open("w") as file:
        for event in events(trials, spec):
            file.write(json.dumps(event) + "\n")
