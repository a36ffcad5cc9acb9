"""What a network is told beside the example: the noise level, and a class or a condition."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Sine and cosine features of t, [B] -> [B, width] (Vaswani et al. 2017)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Condition(nn.Module):
    """One vector for the noise level and the class or condition: [B], [B, ...] -> [B, out].

    Args:
        width: of the sinusoids that t becomes first.
        labels: number of classes, 0 for none.
        time_scale: brings the given t to about 0...1000.
        features: numbers in each example's condition, 0 for none.
    """

    def __init__(
        self, width: int, out: int, labels: int, time_scale: float, features: int
    ) -> None:
        super().__init__()
        self.width, self.time_scale = width, time_scale
        self.time = nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))
        self.label = nn.Embedding(labels, out) if labels else None
        self.given = nn.Linear(features, out) if features else None

    def forward(self, t: Tensor, labels: Tensor | None) -> Tensor:
        condition: Tensor = self.time(sinusoids(t * self.time_scale, self.width))
        if self.label is not None:
            assert labels is not None, "the data has labels"
            condition = condition + self.label(labels)
        if self.given is not None:
            assert labels is not None, "the data has conditions"
            condition = condition + self.given(labels.flatten(1))
        return condition
