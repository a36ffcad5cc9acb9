"""Schedule-Free AdamW, and which weights count for optimizers that train other ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pytorch_optimizer import ScheduleFreeAdamW
from torch import Tensor


class ScheduleFree(ScheduleFreeAdamW):
    """Schedule-Free AdamW (Defazio et al. 2024) that can be evaluated without being disturbed.

    The weights are trained at y = (1 - beta1) z + beta1 x; x is the average to evaluate.
    """

    def averaged(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The average x, for weights that are all of this optimizer's."""
        z = [self.state[weight].get("z", weight) for weight in weights]  # before a step: y = x = z
        beta1 = self.param_groups[0]["betas"][0]
        y = [weight.detach() for weight in weights]
        return list(torch._foreach_lerp(y, z, 1 - 1 / beta1))
