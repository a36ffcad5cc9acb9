"""Exponential moving averages of the weights, several tracked together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

MAX_DECAY = 0.9999
EVERY_STEP_UNTIL, SELDOM = 128, 4  # steps; the first is a multiple of the second


def is_due(step: int) -> bool:
    """Whether the averages are to be updated after this step."""
    return step <= EVERY_STEP_UNTIL or step % SELDOM == 0


def ema_decay(name: str, step: int) -> float:
    """The decay after `step` updates: a constant such as "0.999", or a power rule.

    "power-0.75" is 1 - (1 + step)^-0.75, at most 0.9999: the average reaches back a roughly
    constant share of the training so far (k-diffusion's and diffusers' `inv_gamma=1`).
    """
    value = float(name.removeprefix("power-"))
    return min(1 - (1 + step) ** -value, MAX_DECAY) if name.startswith("power-") else value


class Emas:
    """Averages of a model's trainable weights, one dictionary of tensors for each name."""

    def __init__(self, names: Iterable[str], model: nn.Module) -> None:
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.averages = {
            name: {n: p.detach().clone() for n, p in trained.items()} for name in names
        }

    @torch.no_grad()
    def update(self, step: int, weights: list[torch.Tensor]) -> None:
        """Move every average toward the trained weights as they count after `step` steps.

        Once they look back on many steps, averages take in every fourth one, with the decay of
        all four: that costs a quarter and changes them by less than one step does.
        """
        since = 1 if step <= EVERY_STEP_UNTIL else SELDOM
        for name, average in self.averages.items():
            decay = math.prod(ema_decay(name, s) for s in range(step - since + 1, step + 1))
            torch._foreach_lerp_(list(average.values()), weights, 1 - decay)

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        return self.averages

    def load_state_dict(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        for name, average in self.averages.items():
            for key, tensor in average.items():
                tensor.copy_(state[name][key])
