"""A training that takes a second and next to no computing, to see what everything else costs."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from torch import Tensor, nn

SECONDS = float(os.environ.get("SLEEPER_SECONDS", "1"))


class Sleeper(nn.Module):
    """Sleeps in training, for a step; each notes its begin and end where SLEEPER_LOG says."""

    def __init__(self, shape: tuple[int, ...], **_: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            note("begin")
            time.sleep(SECONDS)
            note("end")
        return x * self.scale


def note(what: str) -> None:
    """A line: the process, what, seconds of wall clock, seconds of this process's CPU."""
    if (path := os.environ.get("SLEEPER_LOG")) is not None:
        line = f"{os.getpid()} {what} {time.time():.4f} {time.process_time():.4f}\n"
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.write(file, line.encode())
        os.close(file)


def examples() -> Tensor:
    return torch.rand(64, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
