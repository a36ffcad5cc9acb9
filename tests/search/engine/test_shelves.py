"""What every sampler and scheduler of the shelves keeps to; a new entry is tested at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.engines import chosen, run, start
from support.specs import SMALL, make_spec

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
POINTS = 4 + 8  # of adam and of sgd, whose published default is one
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
    assert len(one.book.trials) == (1 + POINTS if entry.finite else 30)


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


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_space_that_is_used_up_ends_the_search(kind: str) -> None:
    """No config is trained again with the same seed."""
    space: dict[str, Any] = {
        "optimizer": {"adam": {"lr": [1e-3, 1e-2, 1e-1], "beta1": 0.9, "beta2": 0.999}},
        "warmup": 0.0,
        "lr_schedule": "constant",
        "clip_norm": [1.0, None],
    }
    if SAMPLERS[kind].needs == "ranges of lr":
        pytest.skip("has ranges, which have no end")
    engine = start(
        make_spec(space=space, sampler={"type": kind}, budget={"trials": 24}, baselines="none")
    )
    run(engine, workers=1)
    engine.finish()
    assert engine.book.state == "complete" and len(engine.book.trials) == 6
    assert len({json.dumps(config) for config in chosen(engine)}) == 6


@pytest.mark.parametrize("kind", [name for name, entry in SAMPLERS.items() if entry.learns])
@pytest.mark.parametrize("trials", [10, 24])
def test_a_model_is_asked_after_half_of_the_trials_at_most(
    kind: str, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With early stopping, by which few trials are complete."""
    asked: list[int] = []
    sampler = load(SAMPLERS[kind].target)
    relative = sampler.sample_relative

    def watched(self: Any, study: Any, trial: Any, space: Any) -> Any:
        states = ("COMPLETE",) if SAMPLERS[kind].from_complete else ("COMPLETE", "PRUNED")
        known = sum(t.state.name in states for t in study.trials)
        if known >= self._n_startup_trials:
            asked.append(trial.number)
        return relative(self, study, trial, space)

    monkeypatch.setattr(sampler, "sample_relative", watched)
    keys = {
        "sampler": {"type": kind},
        "budget": {"trials": trials},
        "trial": SMALL | {"steps": 64},
    }
    engine = start(make_spec(space={"optimizer": ["adam"]}, **keys))
    run(engine, workers=1)
    assert asked and min(asked) <= trials // 2 + 1 and len(asked) >= trials // 2 - 2


def test_cmaes_takes_a_config_from_outside_its_ranges() -> None:
    baseline = {"optimizer": {"type": "adamw", "lr": 1e-3, "weight_decay": 0.0}}
    spec = make_spec(
        space={"optimizer": ["adamw"]},
        sampler={"type": "cmaes"},
        budget={"trials": 20},
        baselines=[baseline],
    )
    engine = start(spec)
    run(engine)
    assert len(engine.book.trials) == 20


@pytest.mark.parametrize(
    "space",
    [
        {"optimizer": ["adam", "adamw"], "warmup": {"steps": {"low": 0, "high": 8, "step": 3}}},
        {"optimizer": {"sgd": {"momentum": {"low": 0.5, "high": 0.95, "step": 0.15}}}},
        {"optimizer": ["adam"], "batch_size": {"low": 4, "high": 16, "step": 3}},
        {"optimizer": {"radam": {"weight_decay": [0, 0.01]}}},
    ],
)
def test_a_published_default_off_the_grid_of_a_range_is_tried_all_the_same(
    space: dict[str, Any],
) -> None:
    engine = start(make_spec(space=space, budget={"trials": 16}))
    run(engine)
    engine.finish()
    assert engine.book.state == "complete" and engine.book.trials[0].baseline
