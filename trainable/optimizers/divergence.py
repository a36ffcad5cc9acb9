"""Gradients that are not finite: seen at every step, without making a GPU wait."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


class DivergenceWatch:
    """Tells whether a step met a gradient that is not finite, without making the GPU wait.

    On CUDA the answer is copied beside the computation and read one step late. Until then a flag
    on the device masks the update, so that what is not finite reaches neither the weights nor the
    optimizer's state.
    """

    def __init__(self, device: torch.device) -> None:
        self.late = device.type == "cuda"
        self._pending: tuple[Tensor, Callable[[], None]] | None = None

    def diverged(self, grad_norm: Tensor, optimizer: Optimizer) -> bool:
        """Whether this step's gradient norm (on CUDA: the step's before it) is not finite."""
        if not self.late:
            return not math.isfinite(grad_norm.item())
        answer = self.flush()
        mask(optimizer, ~grad_norm.isfinite())
        self._pending = send(grad_norm)
        return answer

    def flush(self) -> bool:
        """Wait for the answer that is still on its way, if there is one."""
        if self._pending is None:
            return False
        (copy, wait), self._pending = self._pending, None
        wait()
        return not math.isfinite(copy.item())


@torch.no_grad()
def mask(optimizer: Optimizer, bad: Tensor) -> None:
    """Make the next step change nothing if `bad`, a flag on the device, says so.

    Fused optimizers skip it altogether. Others are given gradients of 0, which move the weights by
    what momentum there is.
    """
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # as GradScaler sets it
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is not None:
                weight.grad.masked_fill_(bad, 0.0)


def send(value: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy of a number on its way from the GPU, and what waits until it is there."""
    copy = torch.empty((), pin_memory=True)
    copy.copy_(value.detach(), non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return copy, event.synchronize
