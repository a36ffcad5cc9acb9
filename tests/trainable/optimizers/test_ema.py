"""The averages of the weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainable.optimizers.ema import EVERY_STEP_UNTIL, SELDOM, Emas, ema_decay, is_due


def averages(weights_at: list[float], seldom: bool) -> dict[str, float]:
    """Averages of one weight that takes these values after the steps 1, 2, ..."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    names = ("power-0.75", "0.999")
    emas, plain = Emas(names, model), dict.fromkeys(names, 0.0)
    for step, value in enumerate(weights_at, start=1):
        for name in names:
            plain[name] += (1 - ema_decay(name, step)) * (value - plain[name])
        if is_due(step):
            emas.update(step, [torch.full((1, 1), value)])
    return {n: a["weight"].item() for n, a in emas.averages.items()} if seldom else plain


def test_averages_are_those_of_every_step_while_they_look_back_on_few() -> None:
    weights = [math.sin(step) for step in range(EVERY_STEP_UNTIL)]
    assert averages(weights, seldom=True) == pytest.approx(
        averages(weights, seldom=False), rel=1e-4
    )


def test_later_they_take_in_every_fourth_step_with_the_decay_of_four() -> None:
    steps = EVERY_STEP_UNTIL + 100 * SELDOM
    constant = [1.0] * steps
    assert averages(constant, seldom=True) == pytest.approx(
        averages(constant, seldom=False), rel=1e-5
    )
    drifting = [1 + step / steps for step in range(steps)]
    assert averages(drifting, seldom=True) == pytest.approx(
        averages(drifting, seldom=False), abs=2 / steps
    )


def test_power_decays_reach_back_a_constant_share() -> None:
    assert ema_decay("power-0.75", 15) == pytest.approx(1 - 16**-0.75)
    assert ema_decay("power-0.75", 10**9) == 0.9999
    assert ema_decay("0.999", 1) == 0.999
