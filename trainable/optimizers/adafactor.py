"""Adafactor that factors convolutions as the matrices they are."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Adafactor


class MatrixAdafactor(Adafactor):
    """torch's Adafactor (Shazeer & Stern 2018) with convolutions flattened to two dimensions.

    torch factors the last two dimensions: of a 3 x 3 kernel that saves a third and is slow, of the
    matrix (outputs, inputs x 9) it saves nearly all.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        weights = [w for group in self.param_groups for w in group["params"]]
        kernels = [(w, w.data, w.grad) for w in weights if w.ndim > 2 and w.grad is not None]
        for weight, data, grad in kernels:
            weight.grad = None
            weight.data, weight.grad = data.flatten(1), grad.flatten(1)
        loss = super().step(closure)  # type: ignore[no-untyped-call]
        for weight, data, grad in kernels:
            if weight.data_ptr() != data.data_ptr():  # flattening had to copy: channels last
                data.copy_(weight.view(data.shape))
            weight.grad = None
            weight.data, weight.grad = data, grad
        return loss
