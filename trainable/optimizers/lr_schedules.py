"""The lr_schedule shelf: the learning rate over the full budget, as a factor of its peak."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

WSD_DECAY = 0.2  # last fraction of the budget in which wsd decays (Hagele et al. 2024)

# progress through the budget in [0, 1) -> factor in [0, 1]
LR_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),  # Loshchilov 2017
    "wsd": lambda progress: min(1.0, (1.0 - progress) / WSD_DECAY),
    # constant for a tenth of the budget, then 1/sqrt (Karras et al. 2024, EDM2 eq. 67)
    "inv_sqrt": lambda progress: 1.0 / math.sqrt(max(progress / 0.1, 1.0)),
}
if TYPE_CHECKING:
    LrSchedule = str
else:
    LrSchedule = Literal[tuple(LR_SCHEDULES)]


def lr_factor(schedule: LrSchedule, warmup_steps: int, step: int, steps: int) -> float:
    """Factor of the peak learning rate at `step` (from 0) of a budget of `steps`.

    The warmup is linear and multiplies the schedule; the schedule always spans the full budget,
    never a rung, so that a trial stopped early is the beginning of the full one.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * LR_SCHEDULES[schedule](step / steps)
