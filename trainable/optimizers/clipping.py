"""Gradients held in bounds before a step: adaptively, by value, by norm."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

AGC_EPS = 1e-3  # least norm of a unit's weights, or those that begin at zero would never move


class Clipping:
    """Clips the gradients of `weights` in place; what is not asked for is not computed.

    Args:
        norm: the largest norm of all gradients together.
        value: the largest absolute value of any.
        agc: the largest ratio of a unit's gradient to its weights, by norm (Brock et al. 2021,
            eq. 3). A unit is a row of a matrix or an output channel; a vector is one unit.
        output: the weights of the layer that answers, which AGC leaves as they are (section 4.1).
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        norm: float | None = None,
        value: float | None = None,
        agc: float | None = None,
        output: Iterable[Tensor] = (),
    ) -> None:
        self.weights, self.norm, self.value, self.agc = list(weights), norm, value, agc
        spared = {id(weight) for weight in output}
        self.units = [weight for weight in self.weights if id(weight) not in spared]

    @torch.no_grad()
    def __call__(self) -> tuple[Tensor, Tensor]:
        """The norm of all gradients before, and whether anything was clipped: 1 or 0."""
        grads = [weight.grad for weight in self.weights if weight.grad is not None]
        total = before = get_total_norm(grads, foreach=True)
        clipped = torch.zeros_like(before, dtype=torch.bool)
        if self.agc is not None:
            clipped = clipped | self._clip_units(self.agc)
        if self.value is not None:
            largest = torch.stack(torch._foreach_norm(grads, torch.inf)).max()
            clipped = clipped | (largest > self.value)
            torch._foreach_clamp_min_(grads, -self.value)
            torch._foreach_clamp_max_(grads, self.value)
        if self.norm is not None:
            if self.agc is not None or self.value is not None:
                total = get_total_norm(grads, foreach=True)
            clipped = clipped | (total > self.norm)
            clip_grads_with_norm_(self.weights, self.norm, total, foreach=True)
        return before, clipped

    def _clip_units(self, ratio: float) -> Tensor:
        pairs = [(weight, weight.grad) for weight in self.units if weight.grad is not None]
        factors = []
        for weight, grad in pairs:
            largest = ratio * _unit_norms(weight).clamp(min=AGC_EPS)
            factors.append((largest / _unit_norms(grad).clamp(min=1e-12)).clamp(max=1))
        torch._foreach_mul_([grad for _, grad in pairs], factors)
        least: Tensor = torch.stack([factor.min() for factor in factors]).min()
        return least < 1


def _unit_norms(x: Tensor) -> Tensor:
    """The norm of each unit, in a shape that broadcasts with x."""
    inner = tuple(range(1, x.ndim)) or None
    norms: Tensor = torch.linalg.vector_norm(x, dim=inner, keepdim=x.ndim > 1)
    return norms
