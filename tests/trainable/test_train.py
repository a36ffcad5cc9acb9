"""The training loop, and that a checkpoint holds all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.specs import make_config
from support.training import HERE, LRS, TIMING

from search.spec.space import keeps_lr
from trainable.actor import checkpoint
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.report import next_report, report
from trainable.train import TrainState, train_until


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


def run(state: TrainState, samples: int) -> list[dict[str, Any]]:
    """Train up to `samples`, with the reports on the way, less what depends on the machine."""
    reports = []
    while state.samples < samples:
        train_until(state, min(next_report(state.config, [], state.samples)[0], samples))
        if state.step % state.config.report_every == 0:
            reports.append({k: v for k, v in report(state).items() if k not in TIMING})
    return reports


@pytest.mark.parametrize("optimizer", [*HERE, "pytorch_optimizer:ScheduleFreeRAdam"])
def test_resumed_training_equals_the_unbroken_one(
    optimizer: str, data: Data, tmp_path: Path
) -> None:
    config = make_config(
        {"type": optimizer, "lr": LRS.get(optimizer, 1e-2)},
        warmup=0.2,
        lr_schedule="constant" if keeps_lr(optimizer) else "cosine",
        clip_norm=1.0,
        model={"type": "unet", "channels": 8, "dropout": 0.1},
    )
    unbroken = TrainState(config, data)
    expected = run(unbroken, config.samples)

    for stop_at in (1, 4, 7):  # before a report, at one, and between two
        stopped = TrainState(config, data)
        seen = run(stopped, stop_at * config.batch_size)
        checkpoint.save(stopped, tmp_path / "checkpoint.pt", None)
        torch.rand(3)  # what happens in between must not matter
        resumed = TrainState(config, data)
        checkpoint.load(resumed, tmp_path / "checkpoint.pt")
        seen += run(resumed, config.samples)

        assert seen == expected
        for name, average in unbroken.emas.averages.items():
            for key, tensor in average.items():
                assert torch.equal(tensor, resumed.emas.averages[name][key])


def test_training_lowers_the_validation_loss(data: Data) -> None:
    state = TrainState(make_config(steps=60), data)
    before = report(state)["val_loss"]
    train_until(state, state.config.samples)
    assert report(state)["val_loss"] < 0.8 * before


def test_divergence_ends_the_training_where_it_happens(data: Data) -> None:
    state = TrainState(make_config({"type": "sgd", "lr": 1e6}, steps=60), data)
    train_until(state, state.config.samples)
    assert state.diverged_at is not None and state.diverged_at == state.step < 60


def test_the_order_of_examples_depends_on_the_seed_alone(data: Data) -> None:
    small, large = (TrainState(make_config(batch_size=b), data).batches for b in (8, 16))
    first = torch.cat([small._indices(place) for place in range(0, 4000, 8)])
    assert torch.equal(first, torch.cat([large._indices(place) for place in range(0, 4000, 16)]))
    other = TrainState(make_config(seed=1), data).batches
    assert not torch.equal(other._indices(0), small._indices(0))
    epoch = torch.cat([small._indices(place) for place in range(0, 1256, 8)])
    assert len(epoch.unique()) == 1256  # no example twice in an epoch
    n = small.examples
    second = first[n : 2 * n]
    assert len(second.unique()) == n and not torch.equal(second, first[:n])


def test_reports_come_at_rungs_in_whole_steps() -> None:
    config = make_config(steps=20, report_every=6)  # 8 examples a step
    reports, samples = [], 0
    while samples < config.samples:
        samples, at_rung = next_report(config, [20, 100], samples)
        reports.append((samples, at_rung))
    expected = [(24, True), (48, False), (96, False), (104, True), (144, False), (160, False)]
    assert reports == expected
