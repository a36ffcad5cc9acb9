"""No value outside its range reaches a trial, whoever proposes it; what is no range is told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from search.engine.designs import at
from search.engine.sampler import Sampler
from search.errors import BadInput
from search.history.book import Trial
from search.spec.dimensions import (
    ABSENT,
    Range,
    between,
    distribution,
    found_in,
    quantile_of,
)
from search.spec.loading import load_spec
from search.spec.shelves import SAMPLERS
from search.spec.space import Space
from trainable.base.reading import parse

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    """Any range that can be written."""
    kind = draw(st.sampled_from(["plain", "log", "log_from_one", "step"]))
    if kind == "log_from_one":
        low, high = 0.0, 0.999999
    elif kind == "log":
        low, high = 1e-12, 1e6
    else:
        low, high = -1e6, 1e6
    ends = st.floats(low, high, allow_subnormal=False)
    keys: dict[str, Any] = {"low": draw(ends), "high": draw(ends)}
    keys |= {} if kind == "plain" else {kind: True}
    if kind == "step":
        keys["step"] = abs(keys["high"] - keys["low"]) * draw(st.floats(0.001, 1.0))
    try:
        return Range(**keys)
    except ValidationError:
        return draw(ranges())


def is_inside(dimension: Range, value: Any) -> bool:
    found = found_in("knob", dimension, value)
    return dimension.low <= value <= dimension.high and found is not ABSENT


@QUICK
@given(ranges(), st.floats(0, 1))
def test_a_quantile_lies_in_its_range_and_back(dimension: Range, quantile: float) -> None:
    value = between(dimension, quantile)
    assert is_inside(dimension, value) and is_inside(dimension, at("knob", dimension, quantile))
    assert 0 <= quantile_of(dimension, value) <= 1
    for end in dimension.ends:
        assert is_inside(dimension, end)


@settings(QUICK, max_examples=15)
@given(ranges(), st.sampled_from([*SAMPLERS]), st.integers(0, 2**31))
def test_no_proposal_leaves_its_range(dimension: Range, kind: str, seed: int) -> None:
    if SAMPLERS[kind].needs == "choices":
        return
    space = Space.model_validate(
        {"optimizer": {"own:Opt": {"lr": dimension}}, "clip_norm": dimension}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna's, of a range that is no grid
        sampler = Sampler(space, ["own:Opt"], kind, seed=seed)
        for number in range(2):
            proposed = [sampler.ask(number, "own:Opt")]
            proposed.append(sampler.spread(number, "own:Opt", number, 2))
            for chosen in filter(None, proposed):
                assert is_inside(dimension, chosen["own:Opt.lr"])
                assert is_inside(dimension, chosen["clip_norm"])
                encoded = space.encode(chosen, ["own:Opt"])
                assert encoded is not None
                kind_ = distribution("lr", dimension)
                assert kind_._contains(kind_.to_internal_repr(encoded["own:Opt.lr"]))


@pytest.mark.parametrize("kind", ["tpe", "qmc", "cmaes", "gp"])
def test_a_sampler_that_has_learned_stays_on_a_grid_that_ends_early(kind: str) -> None:
    step = {"low": 0.001, "high": 0.01, "step": 0.005}
    space = Space.model_validate({"optimizer": {"adam": {"lr": step}}, "warmup": {**step}})
    sampler = Sampler(space, ["adam"], kind, budget=8)
    for number in range(8):
        chosen = sampler.ask(number, "adam")
        if chosen is None:
            break
        assert chosen["adam.lr"] in (0.001, 0.006) and chosen["warmup"] in (0.001, 0.006)
        trial = Trial(number, "search", chosen, {"optimizer": {"type": "adam"}})
        trial.state = "complete"
        trial.reports = [{"step": 1, "samples": 64, "val_loss": 1.0 - 0.1 * number}]
        sampler.update(trial)


@pytest.mark.parametrize(
    ("given_", "last"),
    [
        ({"low": 0.0, "high": 0.3, "step": 0.1}, 0.3),  # 0.1 three times is more than 0.3
        ({"low": 0.001, "high": 0.01, "step": 0.005}, 0.006),
        ({"low": 0.0, "high": 1.0, "step": 1.0}, 1.0),
        ({"low": 0.1, "high": 0.7, "step": 0.6}, 0.7),
    ],
)
def test_a_range_with_steps_ends_at_its_last_whole_step(
    given_: dict[str, float], last: float
) -> None:
    dimension = Range(**given_)
    assert dimension.last == last == dimension.ends[-1]
    assert dimension.last <= dimension.high


FAULTS = {
    "clip_norm: {low: 0.1, high: 1, step: 2}": "step 2.0 is more than the range from low to high",
    "clip_norm: {low: 0.1, high: 1, step: 1.0e-300}": "makes more than 1,000,000,000 values",
    "clip_norm: {low: -1.0e+308, high: 1.0e+308}": "are too far apart",
    "clip_norm: {low: 0.1, high: .inf}": "clip_norm.high: must be finite, got inf",
    "clip_norm: [1, .inf]": "clip_norm: must be finite, got inf",
    "clip_norm: .nan": "clip_norm: must be finite, got nan",
    "clip_norm: [[1]]": "a value is a number, a text, true, false or null, not a list",
    "clip_norm: [{a: 1}]": "not a mapping",
    "clip_norm: []": "a list of choices needs at least one",
    "clip_norm: 2020-01-01": "expected a number, got '2020-01-01'",
    "batch_size: {low: 0.5, high: 16}": "low, high and step have to be whole numbers here",
    "batch_size: {low: 4, high: 16, step: 2.5}": "have to be whole numbers here",
    "batch_size: {low: 0, high: 16}": "must be at least 1, got 0",
    "batch_size: [0]": "must be at least 1, got 0",
    "batch_size: x": "expected a whole number, got 'x'",
    "batch_size: 8.5": "a whole number",
    "warmup: {steps: {low: 0.5, high: 16}}": "have to be whole numbers here",
    "warmup: {steps: .inf}": "must be finite, got inf",
    "warmup: -1": "must be at least 0",
    "optimizer: [1]": "an optimizer is named once, got 1",
    "optimizer: [adam, {sgd: {}}]": "an optimizer is named once, got a mapping",
    "optimizer: [adam, adam]": "an optimizer is named once, got 'adam'",
    "optimizer: 7": "expected a mapping, got 7",
    "optimizer: {adam: {lr: .inf}}": "adam.lr: must be finite, got inf",
    "optimizer: {adam: {lr: {low: .nan, high: 1}}}": "adam.lr.low: must be finite, got nan",
    "clip_norm: !!binary aGVsbG8=": "expected plain YAML, got bytes",
    "clip_norm: !own 3": "expected plain YAML, got TaggedScalar",
    "batch_size: 99999999999999999999": "space.batch_size: too large a number, beyond 2^63",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_value_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"name: x\nspace:\n  {text}\n")
    with pytest.raises(BadInput) as raised:
        load_spec(path)
    (fault,) = raised.value.faults
    assert FAULTS[text] in fault and "\n" not in fault


SETS = {
    "space.optimizer.torch.optim:Adagrad.lr=0.5": ("torch.optim:Adagrad", "lr", 0.5),
    "space.optimizer.torch.optim:Adagrad.lr.high=0.5": (
        "torch.optim:Adagrad",
        "lr",
        {"high": 0.5},
    ),
    "space.optimizer.mine.optim:Sign.lr=0.1": ("mine.optim:Sign", "lr", 0.1),
    "space.optimizer.adam.lr=0.1": ("adam", "lr", 0.1),
}


@pytest.mark.parametrize("assignment", SETS)
def test_set_reaches_keys_that_hold_dots(assignment: str) -> None:
    name, key, value = SETS[assignment]
    document = parse("space: {optimizer: {'torch.optim:Adagrad': {lr: {low: 0.1}}}}", "spec")
    document.override(assignment)
    found = document.data["space"]["optimizer"][name][key]
    assert found == (value if not isinstance(value, dict) else {"low": 0.1} | value)
    assert document.locate(("space", "optimizer", name, key, "high")).startswith("--set") or (
        not isinstance(value, dict)
    )


def test_a_date_is_the_text_that_stands_there() -> None:
    assert json.dumps(parse("a: 2020-01-01", "spec").data) == '{"a": "2020-01-01"}'
    assert parse("a: &x true\nb: *x", "spec").data == {"a": True, "b": True}
