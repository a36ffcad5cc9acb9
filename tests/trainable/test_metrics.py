"""What every metric of the shelf keeps to; a new entry is tested at once."""

from __future__ import annotations

import math

import pytest
import torch
from support.specs import make_config, make_spec

from search.spec.checks import check
from trainable.base.shelf import load
from trainable.data.loading import load_data
from trainable.metrics import END_METRICS, METRICS, OBJECTIVES, REPORT_METRICS
from trainable.report import report
from trainable.train import TrainState, train_until

MEASURED = [name for name, metric in METRICS.items() if metric.measure]


@pytest.fixture(scope="module")
def state() -> TrainState:
    """A training between its second step and its report."""
    config = make_config()
    trained = TrainState(config, load_data(config.dataset))
    train_until(trained, 2 * config.batch_size)
    return trained


@pytest.mark.parametrize("name", MEASURED)
def test_a_measure_gives_a_number_and_changes_nothing(name: str, state: TrainState) -> None:
    measure = load(str(METRICS[name].measure))
    before = torch.get_rng_state(), [weight.clone() for weight in state.trained.values()]
    value = measure(state)
    assert isinstance(value, int | float) and math.isfinite(value)
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(map(torch.equal, before[1], state.trained.values()))


def test_a_report_holds_what_is_measured_one_by_one(state: TrainState) -> None:
    assert set(MEASURED) <= report(state).keys()


def test_a_metric_is_recorded_at_each_report_or_at_the_end() -> None:
    assert {*REPORT_METRICS} | {*END_METRICS} == METRICS.keys()
    assert not {*REPORT_METRICS} & {*END_METRICS}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_metric_with_better_values_can_be_an_objective(name: str) -> None:
    others = [] if name == "val_loss" else [{"metric": name}]
    spec = make_spec(objective=[{"metric": "val_loss"}, *others])
    assert (name, OBJECTIVES[name]) in spec.aims
    assert [fault for where, fault in check(spec) if "objective" in where] == []
