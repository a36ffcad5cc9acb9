"""The time that is written down: the wall's when a driver begins, then what a stopwatch says."""

from __future__ import annotations

import time


class SteadyClock:
    """Seconds since the epoch that never jump: not when the wall's clock is set, nor in a sleep.

    A laptop that was suspended has not worked meanwhile, so that time counts for nothing.
    """

    def __init__(self) -> None:
        self.began, self.started = time.time(), time.monotonic()

    def __call__(self) -> float:
        return self.began + time.monotonic() - self.started
