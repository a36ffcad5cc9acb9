"""Divergence: a gradient that is not finite, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from trainable.optimizers.divergence import DivergenceWatch

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("norm", "diverged"), [(1.0, False), (1e38, False), (math.inf, True), (math.nan, True)]
)
def test_a_gradient_that_is_not_finite_is_divergence(norm: float, diverged: bool) -> None:
    watch, optimizer = DivergenceWatch(CPU), torch.optim.SGD([torch.zeros(1)], lr=0.1)
    assert watch.diverged(torch.tensor(norm), optimizer) is diverged
    assert watch.flush() is False
