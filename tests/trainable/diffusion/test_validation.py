"""Validation: fair, the same for every trial, and no part of the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.specs import make_config

from trainable.data.loading import load_data
from trainable.data.parts import Data, Part
from trainable.diffusion.config import Diffusion
from trainable.diffusion.process import build_process
from trainable.diffusion.validation import Validation
from trainable.report import report
from trainable.train import TrainState, train_until

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


def validation(data: Data, places: int = 64, batch_size: int = 16) -> Validation:
    process = build_process(Diffusion(), CPU)
    return Validation(process, data.validation, places, batch_size, CPU)


def guess_nothing(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    """A network that always answers zero: its loss is the mean square of the target."""
    return torch.zeros_like(x)


@pytest.mark.parametrize("places", [4, 16, 64, 1000])
def test_noise_levels_are_stratified_with_a_quarter_in_each_quartile(
    places: int, data: Data
) -> None:
    u = validation(data, places).u
    assert torch.equal(torch.floor(u.double() * places), torch.arange(places).double())
    assert [int(((u >= q / 4) & (u < (q + 1) / 4)).sum()) for q in range(4)] == [places // 4] * 4


def test_validation_is_the_same_for_every_seed_and_every_optimizer(data: Data) -> None:
    first = TrainState(make_config(seed=0), data).validation
    other = TrainState(make_config({"type": "sgd", "lr": 0.1}, seed=7), data).validation
    for name in ("x0", "u", "noise"):
        assert torch.equal(getattr(first, name), getattr(other, name))


def test_validation_does_not_touch_the_training_stream(data: Data) -> None:
    config = make_config(model={"type": "unet", "channels": 8, "dropout": 0.2})
    losses = []
    for watched in (True, False):
        state = TrainState(config, data)
        train_until(state, 4 * config.batch_size)
        if watched:
            report(state)
        train_until(state, 8 * config.batch_size)
        losses.append(report(state)["val_loss"])
    assert losses[0] == losses[1]


def test_validation_uses_held_out_examples_alone(data: Data) -> None:
    held_out = {x.tobytes() for x in data.validation.x}
    assert {x.numpy().tobytes() for x in validation(data).x0} <= held_out


def test_the_loss_is_the_mean_of_its_quartiles_in_any_batch_size(data: Data) -> None:
    whole, *quartiles = validation(data, batch_size=64).losses(guess_nothing)
    assert whole == pytest.approx(sum(quartiles) / 4)
    assert validation(data, batch_size=5).losses(guess_nothing) == pytest.approx(
        [whole, *quartiles]
    )
    assert whole == pytest.approx(1, abs=0.05)  # the target of eps is noise of unit variance


def test_more_places_than_examples_repeat_them_with_other_noise() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    part = Part(x, np.array([0, 1, 2]))
    many = Validation(build_process(Diffusion(), CPU), part, 12, 4, CPU)
    assert many.labels is not None
    assert torch.equal(many.x0, torch.tensor(x)[many.labels])  # labels go with their examples
    assert sorted(many.labels.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    assert len({noise.numpy().tobytes() for noise in many.noise}) == 12
