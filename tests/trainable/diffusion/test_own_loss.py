"""A training by a loss of the user's own, from the spec to its validation."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.specs import SMALL, make_config, make_spec
from torch import Tensor

from search.spec.checks import check
from trainable.actor import checkpoint
from trainable.data.loading import load_data
from trainable.preflight import try_model
from trainable.report import report
from trainable.solo import train
from trainable.train import TrainState, train_until

SEEN: list[Any] = []


def denoise(model: Any, batch: Any, generator: torch.Generator) -> Tensor:
    """A process that diffsweep does not have: noise of one fixed strength."""
    SEEN.append(batch)
    x0, labels = batch if isinstance(batch, tuple) else (batch, None)
    noise = torch.randn(x0.shape, generator=generator)
    t = torch.full((len(x0),), 500.0)
    answer = model(x0 + noise, t) if labels is None else model(x0 + noise, t, labels)
    return (answer - noise).square().mean()


def per_example(model: Any, batch: Tensor, generator: torch.Generator) -> Tensor:
    return (model(batch, torch.zeros(len(batch))) - batch).square().flatten(1).mean(1)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModuleType("own_process")
    own.denoise, own.per_example = denoise, per_example  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_process", own)


def test_a_spec_may_name_its_own_loss() -> None:
    spec = make_spec(trial=SMALL | {"loss": "own_process:denoise"})
    assert list(check(spec)) == []


@pytest.mark.parametrize(
    ("key", "keys"),
    [("loss", {"loss": "nowhere:loss"}), ("features", {"quality": {"features": "nowhere:net"}})],
)
def test_a_loss_and_features_of_ones_own_are_imported_early(
    key: str, keys: dict[str, Any]
) -> None:
    ((where, fault),) = check(make_spec(trial=SMALL | keys))
    assert where[-1] == key and "no module named 'nowhere'; is its folder in code:" in fault


@pytest.mark.parametrize("labels", [False, True])
def test_an_own_loss_trains_and_validates_alike_whatever_the_batch(labels: bool) -> None:
    keys: dict[str, Any] = {"dataset": {"type": "digits", "labels": labels}}
    data = load_data(make_config(**keys).dataset)
    config = make_config(loss="own_process:denoise", steps=60, **keys)
    state = TrainState(config, data)
    before = report(state)
    assert before["val_loss"] == before["val_loss_q1"] == before["val_loss_q4"]
    assert report(state)["val_loss"] == before["val_loss"]  # the same noise each time
    other = TrainState(make_config(loss="own_process:denoise", batch_size=16, **keys), data)
    assert report(other)["val_loss"] == before["val_loss"]
    train_until(state, config.samples)
    assert report(state)["val_loss"] < 0.8 * before["val_loss"]
    assert isinstance(SEEN[-1], tuple) == labels


def test_an_own_loss_resumes_where_it_was(tmp_path: Path) -> None:
    config = make_config(loss="own_process:denoise")
    data = load_data(config.dataset)
    unbroken, stopped, resumed = (TrainState(config, data) for _ in range(3))
    train_until(unbroken, 64)
    train_until(stopped, 24)
    checkpoint.save(stopped, tmp_path / "checkpoint.pt", None)
    checkpoint.load(resumed, tmp_path / "checkpoint.pt")
    train_until(resumed, 64)
    assert report(resumed)["val_loss"] == report(unbroken)["val_loss"]


def test_a_training_by_an_own_loss_writes_no_samples(tmp_path: Path) -> None:
    train(make_config(loss="own_process:denoise", steps=2), tmp_path)
    assert (tmp_path / "metrics.json").exists() and not (tmp_path / "samples.png").exists()


def test_a_loss_per_example_is_refused_before_anything_starts() -> None:
    config = make_config(loss="own_process:per_example")
    fault = r"trial.loss: own_process:per_example answers a Tensor of .* \(2,\), need a scalar"
    with pytest.raises(ValueError, match=fault):
        try_model(config, load_data(config.dataset))
    with pytest.raises(ValueError, match="can't import 'own_process:absent'"):
        try_model(make_config(loss="own_process:absent"), load_data(config.dataset))
