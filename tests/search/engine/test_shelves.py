"""What every sampler and scheduler of the shelves keeps to; a new entry is tested at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.engines import chosen, run, start
from support.specs import make_spec

from search.history.book import ENDED
from search.spec.checks import check
from search.spec.shelves import SAMPLERS, SCHEDULERS
from trainable.base.shelf import load

LISTED: dict[str, Any] = {
    "optimizer": {
        "adam": {"lr": [1e-3, 1e-2], "beta1": 0.9, "beta2": 0.999},
        "sgd": {"lr": [0.1, 0.2], "momentum": [0.5, 0.9], "nesterov": False},
    },
    "warmup": 0.0,
    "lr_schedule": ["constant", "linear"],
    "clip_norm": 1.0,
}
POINTS = 4 + 8  # of adam and of sgd
RANGES: dict[str, Any] = {"optimizer": {"adam": {}, "sgd": {}}}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_no_config_is_proposed_twice(kind: str) -> None:
    space = {"optimizer": {"sgd": {"lr": [0.1, 0.2], "momentum": 0.9, "nesterov": False}}}
    space |= {"warmup": 0.0, "lr_schedule": ["constant", "linear"], "clip_norm": [1.0, None]}
    engine = start(
        make_spec(space=space, baselines="none", budget={"trials": 8}, sampler={"type": kind})
    )
    run(engine)
    assert len({json.dumps(c) for c in chosen(engine)}) == 8


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_proposes_within_the_space_and_is_seeded(kind: str) -> None:
    keys = {"sampler": {"type": kind}, "allocation": "equal", "budget": {"trials": 30}}
    entry = SAMPLERS[kind]
    spec = make_spec(space=LISTED if entry.needs == "choices" else RANGES, **keys)
    assert list(check(spec)) == []
    one, two = start(spec), start(spec)
    for engine in (one, two):
        run(engine, workers=1)
    assert chosen(one) == chosen(two)
    for trial in one.book.trials.values():
        if not trial.baseline:
            assert spec.space.encode(trial.chosen, spec.optimizers) is not None
    assert len(one.book.trials) == (2 + POINTS if entry.finite else 30)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_takes_several_objectives_or_refuses_them(kind: str) -> None:
    entry = SAMPLERS[kind]
    spec = make_spec(
        space=LISTED if entry.needs == "choices" else RANGES,
        objective=[{"metric": "val_loss"}, {"metric": "val_loss_q1"}],
        sampler={"type": kind},
        allocation="equal",
    )
    refused = [fault for where, fault in check(spec) if where == ("sampler", "type")]
    assert bool(refused) != entry.fronts


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_ends_every_trial_and_keeps_the_best_of_each_optimizer(kind: str) -> None:
    keys: dict[str, Any] = {"scheduler": {"type": kind}, "budget": {"trials": 16}}
    engine = start(make_spec(space=RANGES, **keys))
    run(engine, workers=3)
    engine.finish()
    trials = engine.book.trials.values()
    assert engine.book.state == "complete" and len(trials) == 16
    assert all(trial.state in ENDED for trial in trials)
    assert {t.optimizer for t in trials if t.state == "complete"} == {"adam", "sgd"}
    levels = engine.rung_levels(engine.book.trials[0])
    assert levels == sorted(set(levels)) and bool(levels) == SCHEDULERS[kind].rungs
    if not SCHEDULERS[kind].rungs:
        assert all(trial.state == "complete" for trial in trials)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_decides_by_the_history_alone(kind: str, tmp_path: Path) -> None:
    """One search goes through; the other's driver is another one after each few reports."""
    spec = make_spec(space=RANGES, scheduler={"type": kind}, budget={"trials": 10})
    whole = start(spec)
    run(whole, workers=1)
    path = tmp_path / "history.jsonl"
    for _ in range(40):
        engine = start(spec, path)
        run(engine, workers=1, until=5)
        engine.history.close()
    states = [[(t.state, t.samples) for t in one.book.trials.values()] for one in (whole, engine)]
    assert states[0] == states[1] and len(states[0]) == 10


@pytest.mark.parametrize("entry", [*SAMPLERS.values(), *SCHEDULERS.values()])
def test_an_entry_names_code_that_exists_and_its_source(entry: Any) -> None:
    assert callable(load(entry.target)) and entry.source
