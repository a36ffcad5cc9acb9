"""What a trial tells of its stability, at under 2 % of the time of its steps.

Each step writes three numbers to a table on the device, and no step waits for them. What needs
more than that (how far a step moves the weights, how gradients vary) is measured at reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from trainable.metrics import QUARTILES

COLUMNS = ("train_loss", "grad_norm", "clipped")
SPIKE = 6.0  # standard deviations above the running mean that make a loss a spike
HORIZON = 50  # steps that the running mean and deviation look back on, and the first that count
VARIANCE_EVERY = 400  # steps between two measurements of the gradients' variance
VARIANCE_SHARE = 16  # of a batch: the examples behind each of the two gradients compared


class StepLog:
    """Loss, gradient norm and clipping of each step since the last report, on the device."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.rows = torch.zeros(steps, len(COLUMNS), device=device)
        self.count = 0
        self.spikes = Spikes()

    def add(self, *values: Tensor) -> None:
        if self.count == len(self.rows):
            self.rows = torch.cat([self.rows, torch.zeros_like(self.rows)])
        torch.stack([value.detach().float() for value in values], out=self.rows[self.count])
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means since the last report (`clipped`: the share of steps), and spikes so far."""
        table = self.rows[: self.count].cpu().double()
        self.count = 0
        means = table.mean(0) if len(table) else torch.zeros(len(COLUMNS))
        self.spikes.look(table[:, 0].tolist())
        taken = dict(zip(COLUMNS, means.tolist(), strict=True))
        return taken | {"loss_spikes": self.spikes.count}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows[: self.count].clone(), "spikes": vars(self.spikes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = 0
        for row in state["rows"].to(self.rows.device):
            self.add(*row)
        vars(self.spikes).update(state["spikes"])


class Spikes:
    """Counts losses that lie far above the running mean of those before them."""

    def __init__(self) -> None:
        self.count, self.seen = 0, 0
        self.mean, self.variance = 0.0, 0.0

    def look(self, losses: Sequence[float]) -> None:
        """Count the spikes in the losses of the steps that came next.

        A spike moves the mean only as far as the bound, so that one does not hide the next, and a
        loss that stays up is soon no spike any more.
        """
        for loss in losses:
            bound = self.mean + SPIKE * math.sqrt(self.variance)
            if self.seen >= HORIZON and loss > bound:
                self.count += 1
                loss = bound
            rate = max(1 / (self.seen + 1), 1 / HORIZON)
            distance = loss - self.mean
            self.mean += rate * distance
            self.variance = (1 - rate) * (self.variance + rate * distance**2)
            self.seen += 1


@torch.no_grad()
def update_ratio(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """How far a step moved the weights, as a share of their norm; about 1e-3 is usual."""
    moved = torch._foreach_sub(list(after), list(before))
    return get_total_norm(moved, foreach=True) / get_total_norm(list(before), foreach=True)


def gradient_variance(
    loss_of: Callable[[slice], Tensor], weights: Sequence[Tensor], places: int, size: int
) -> list[float]:
    """Variance of a single example's gradient, by quartile of the noise level: sum over weights.

    With means g and h over `size` examples each, it is E|g - h|^2 size / 2. One pair is measured,
    so this is an estimate without bias but not without noise: good to a factor, not to a percent.
    Empty where a quartile has no two examples.

    Args:
        loss_of: the mean loss of a cut of the `places`, which rise in their noise level.
    """
    variances: list[float] = []
    if places < 2 * QUARTILES:
        return variances
    for quartile in range(QUARTILES):
        start, end = (q * places // QUARTILES for q in (quartile, quartile + 1))
        stride = max(2, (end - start) // size)
        g, h = (
            torch.autograd.grad(loss_of(slice(first, end, stride)), weights, allow_unused=True)
            for first in (start, start + stride // 2)
        )
        apart = [a - b for a, b in zip(g, h, strict=True) if a is not None and b is not None]
        examples = len(range(start, end, stride))
        norm = get_total_norm(apart, foreach=True).item()
        variances.append(norm**2 * examples / 2)
    return variances
