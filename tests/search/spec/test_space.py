"""The conditional space: its shorthand, its defaults, and the way from choices to configs."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from pydantic import ValidationError
from support.specs import make_spec

from search.spec.dimensions import (
    ABSENT,
    Choices,
    Fixed,
    Range,
    between,
    distribution,
    found_in,
    quantile_of,
    to_optuna,
)
from search.spec.space import DEFAULT_KNOBS, PUBLISHED, Space, baselines, choice_of, settings
from trainable.config import TrialSettings
from trainable.optimizers.shelf import OPTIMIZERS

TRIAL = TrialSettings(steps=200)
OWN = "package.module:Opt"


def space(**keys: Any) -> Space:
    return Space.model_validate(keys)


def proposals(given: Space, count: int = 40) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [given.propose(study.ask(), list(given.optimizer)) for _ in range(count)]


def test_by_default_four_optimizers_are_searched_each_in_its_own_ranges() -> None:
    default = Space()
    assert list(default.optimizer) == ["adam", "adamw", "sgd", "rmsprop"]
    assert default == space(optimizer=list(default.optimizer))
    assert default.optimizer["adam"]["lr"].ends == (1e-5, 1e-2)
    assert default.optimizer["sgd"]["lr"].ends == (1e-3, 1.0)
    assert "momentum" in default.optimizer["sgd"] and "momentum" not in default.optimizer["adam"]


@pytest.mark.parametrize(
    "given",
    ["adam", ["adam"], {"adam": {}}, {"adam": None}, {"adam": DEFAULT_KNOBS["adam"]}],
)
def test_a_bare_name_takes_the_default_ranges(given: Any) -> None:
    assert space(optimizer=given).optimizer == {"adam": Space().optimizer["adam"]}


def test_a_range_that_is_given_replaces_the_default_and_leaves_the_others() -> None:
    knobs = space(optimizer={"adamw": {"lr": 1e-3, "weight_decay": [0, 0.1]}}).optimizer["adamw"]
    assert knobs["lr"] == Fixed(value=1e-3)
    assert knobs["weight_decay"] == Choices(values=(0, 0.1))
    assert knobs["beta1"] == Space().optimizer["adamw"]["beta1"]


def test_own_code_has_the_knobs_that_it_is_given_and_no_more() -> None:
    assert space(optimizer={OWN: {"lr": 1e-3}}).optimizer[OWN] == {"lr": Fixed(value=1e-3)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_default_range_is_one_that_the_optimizer_takes(name: str) -> None:
    for knob, dimension in space(optimizer=name).optimizer[name].items():
        for end in dimension.ends:
            OPTIMIZERS[name].model_validate({"type": name, "lr": 1e-3, knob: end})


@pytest.mark.parametrize(
    ("given", "dimension"),
    [
        ({"low": 1, "high": 2}, Range(low=1, high=2)),
        ({"low": 0.1, "high": 1, "log": True}, Range(low=0.1, high=1, log=True)),
        ([1, None, "a", True], Choices(values=(1, None, "a", True))),
        (0.5, Fixed(value=0.5)),
        (None, Fixed(value=None)),
        ("cosine", Fixed(value="cosine")),
    ],
)
def test_a_mapping_is_a_range_a_list_its_choices_and_a_value_is_fixed(
    given: Any, dimension: Any
) -> None:
    assert space(clip_norm=given).clip_norm == dimension


@pytest.mark.parametrize(
    "given",
    [
        {"low": 2, "high": 1},
        {"low": 1, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 0.5, "high": 1, "log_from_one": True},
        {"low": 0.1, "high": 0.9, "log": True, "log_from_one": True},
        {"low": 0.1, "high": 0.9, "log": True, "step": 0.1},
        {"low": 0, "high": 1, "step": 0},
        {"low": float("nan"), "high": 1},
        {"low": 0, "high": float("inf")},
        {"low": 0},
        [],
        [[1]],
    ],
)
def test_a_range_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        space(clip_norm=given)


def test_a_trial_has_the_knobs_of_its_own_optimizer_alone() -> None:
    given = space(optimizer=["adam", "sgd"])
    seen = set()
    for chosen in proposals(given):
        own = {name.partition(".")[0] for name in chosen if "." in name}
        assert own == {chosen["optimizer"]}
        assert list(chosen) == [
            "optimizer",
            *(name for name, _ in given.dimensions(chosen["optimizer"])),
        ]
        seen |= own
    assert seen == {"adam", "sgd"}


def test_what_is_proposed_lies_in_the_space() -> None:
    given = Space()
    for chosen in proposals(given):
        for name, dimension in given.dimensions(chosen["optimizer"]):
            assert isinstance(dimension, Fixed) or (
                found_in(name, dimension, chosen[name]) is not ABSENT
            ), name


def test_log_from_one_is_uniform_in_the_logarithm_of_the_distance_to_one() -> None:
    momentum = {"low": 0.9, "high": 0.999, "log_from_one": True}
    given = space(optimizer={"sgd": {"lr": 0.1, "momentum": momentum, "nesterov": False}})
    values = [chosen["sgd.momentum"] for chosen in proposals(given, 400)]
    assert all(0.9 <= value <= 0.999 for value in values)
    # half of the decades from 0.1 to 0.001 lie on each side of 1 - 0.01; uniform: 9 % beyond it
    assert 0.4 < sum(value > 0.99 for value in values) / len(values) < 0.6


def test_whole_numbers_stay_whole() -> None:
    given = space(
        optimizer="adam",
        warmup={"steps": {"low": 0, "high": 20}},
        batch_size={"low": 8, "high": 64},
    )
    for chosen in proposals(given, 10):
        assert type(chosen["warmup.steps"]) is int and type(chosen["batch_size"]) is int


def test_settings_and_choice_of_are_each_others_inverse() -> None:
    given = space(optimizer=["adam", "adamw", "sgd", "rmsprop"], batch_size=[16, 32])
    for chosen in proposals(given):
        config = TRIAL.resolve(**settings(chosen))
        assert config.optimizer.type == chosen["optimizer"]
        assert chosen.items() <= choice_of(config, given).items()


def test_settings_and_choice_of_keep_a_warmup_in_steps() -> None:
    given = space(optimizer="adam", warmup={"steps": [0, 10, 25]})
    for chosen in proposals(given, 5):
        config = TRIAL.resolve(**settings(chosen))
        assert config.warmup_steps == chosen["warmup.steps"]
        assert choice_of(config, given)["warmup.steps"] == chosen["warmup.steps"]


def test_encoded_parameters_are_those_that_optuna_proposed() -> None:
    given = Space()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        chosen = given.propose(trial, list(given.optimizer))
        encoded = given.encode(chosen, list(given.optimizer))
        assert encoded is not None and encoded.keys() == trial.params.keys()
        for name, value in trial.params.items():
            assert encoded[name] == (pytest.approx(value) if isinstance(value, float) else value)


def test_what_lies_outside_the_space_has_no_encoding() -> None:
    given = space(optimizer="adam", clip_norm=[None, 1.0], lr_schedule="cosine")
    (inside,) = proposals(given, 1)
    assert given.encode(inside, ["adam"]) is not None
    assert "optimizer" not in (given.encode(inside, ["adam"]) or {})  # there is no choice
    for key, value in {"clip_norm": 0.5, "adam.lr": 1.0, "lr_schedule": "linear"}.items():
        assert given.encode(inside | {key: value}, ["adam"]) is None


def test_a_choice_of_one_is_not_a_choice_of_true() -> None:
    assert found_in("knob", Choices(values=(True,)), 1) is ABSENT
    assert found_in("knob", Choices(values=(None, 0, 1)), 0.0) == 0
    assert found_in("knob", Choices(values=(None,)), None) is None


def test_baselines_are_the_published_configs_adams_first() -> None:
    given = space(optimizer=["sgd", "rmsprop", "adam", "adamw"])
    chosen = baselines(given, TRIAL, "default")
    assert [one["optimizer"] for one in chosen] == ["adam", "adamw", "sgd", "rmsprop"]
    assert chosen[0]["adam.lr"] == PUBLISHED["adam"]["optimizer"]["lr"] == 1e-4
    assert baselines(given, TRIAL, "none") == []


def test_own_baselines_are_taken_as_given() -> None:
    config = {"optimizer": {"type": "sgd", "lr": 0.3, "momentum": 0.5}, "lr_schedule": "linear"}
    (chosen,) = baselines(space(optimizer=["adam", "sgd"]), TRIAL, [config])
    assert (chosen["optimizer"], chosen["sgd.lr"], chosen["sgd.momentum"]) == ("sgd", 0.3, 0.5)
    assert (chosen["lr_schedule"], chosen["warmup"]) == ("linear", 0.0)


def test_what_the_space_fixes_holds_for_baselines_too() -> None:
    given = space(optimizer={"adam": {"lr": 3e-3}}, clip_norm=0.7, warmup={"steps": 12})
    (chosen,) = baselines(given, TRIAL, "default")
    assert (chosen["adam.lr"], chosen["clip_norm"], chosen["warmup.steps"]) == (3e-3, 0.7, 12)


@pytest.mark.parametrize(
    ("warmup", "longest"),
    [
        ({"low": 0.0, "high": 0.1}, 20),
        ([0.0, 0.05], 10),
        (0.25, 50),
        ({"steps": {"low": 0, "high": 30}}, 30),
        ({"steps": [5, 7]}, 7),
    ],
)
def test_the_longest_warmup_is_known_in_steps(warmup: Any, longest: int) -> None:
    assert space(warmup=warmup).largest_warmup(200, 8) == longest


@pytest.mark.parametrize(
    ("name", "given", "value", "found"),
    [
        ("knob", {"low": 0.5, "high": 0.95, "step": 0.15}, 0.8, 0.8),
        ("knob", {"low": 0.5, "high": 0.95, "step": 0.15}, 0.9, ABSENT),
        ("knob", {"low": 0.0, "high": 1.0, "step": 0.3}, 1.0, ABSENT),  # the last point is 0.9
        ("batch_size", {"low": 4, "high": 16, "step": 3}, 8, ABSENT),
        ("batch_size", {"low": 4, "high": 16, "step": 3}, 10, 10),
        ("batch_size", {"low": 4, "high": 16}, 8.5, ABSENT),
        ("batch_size", {"low": 4, "high": 16}, 8.0, 8),
        ("warmup.steps", {"low": 0, "high": 9, "step": 2}, 9, ABSENT),
        ("knob", {"low": 0.0, "high": 1.0}, True, ABSENT),
    ],
)
def test_a_range_with_steps_has_the_points_of_its_grid_alone(
    name: str, given: dict[str, Any], value: Any, found: Any
) -> None:
    dimension = Range(**{key: float(number) for key, number in given.items()})
    assert found_in(name, dimension, value) == found
    if found is not ABSENT:
        kind = distribution(name, dimension)
        assert kind._contains(kind.to_internal_repr(to_optuna(name, dimension, found)))


@pytest.mark.parametrize(
    "given", [{"low": 0.0, "high": 11.0, "step": 4.0}, {"low": 0.5, "high": 0.95, "step": 0.15}]
)
def test_the_quantiles_of_a_range_with_steps_stay_inside_it(given: dict[str, float]) -> None:
    dimension = Range(**given)
    for percent in range(101):
        value = between(dimension, percent / 100)
        assert found_in("knob", dimension, value) == pytest.approx(value)


def test_a_value_outside_a_range_lies_at_its_end() -> None:
    decay = Range(low=1e-6, high=1e-1, log=True)
    assert [quantile_of(decay, value) for value in (0.0, 1e-6, 1e-1, 1.0)] == [0, 0, 1, 1]


def test_equal_configs_have_one_identity_however_they_came_to_be() -> None:
    space = make_spec(space={"optimizer": {"adam": {"lr": [1e-3]}}}).space
    proposed = {"optimizer": "adam", "adam.lr": 1e-3, "warmup": 0.0}
    assert space.identity(proposed | {"adam.eps": 1e-8}) == space.identity(proposed)
    assert space.identity(proposed | {"adam.eps": 1e-6}) != space.identity(proposed)
