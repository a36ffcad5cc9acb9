"""Made-up curves whose early ranks hold, mean nothing, or cross: for tests and replays."""

from __future__ import annotations

import math
from collections.abc import Callable

from search.forecast.curves import Curves

RATES = [10 ** (-4 + 3 * place / 24) for place in range(25)]  # learning rates from 1e-4 to 1e-1
SHARES = [2.0**-exponent for exponent in range(8, -1, -1)]  # of the budget
# optimizer: log10 of its best learning rate, and its final loss there
OPTIMA = {"one": (-2.0, 0.20), "two": (-3.2, 0.204), "three": (-1.6, 0.23), "four": (-2.6, 0.26)}


def holding(lr: float, best: float, low: float, share: float) -> float:
    """Curves that keep their order: a final loss, and the same way down for all."""
    return _final(lr, best, low) + 0.8 * (math.exp(-4 * share) - math.exp(-4))


def crossing(lr: float, best: float, low: float, share: float) -> float:
    """The higher the learning rate, the faster the start: slow ones overtake near the end."""
    speed = 4.0 * 10 ** (0.5 * (math.log10(lr) - best))
    return _final(lr, best, low) + 0.8 * math.exp(-speed * (share * 2) ** 1.5) * (1 - share)


def slow_winners(lr: float, best: float, low: float, share: float) -> float:
    """The better an optimizer ends, the slower it starts; within one, ranks hold."""
    slowness = 1 + (0.26 - low) / 0.06  # from 1 to 2
    return _final(lr, best, low) + 0.8 * (1 - share) * math.exp(-6 * share / slowness)


def noise(lr: float, best: float, low: float, share: float) -> float:
    """Before a quarter of the budget, ranks mean nothing."""
    draw = math.sin(1e4 * math.log(lr) + 7 * best) ** 2
    early = max(0.0, 1 - 3 * share)
    return _final(lr, best, low) * (1 - early) + early * (0.5 + draw) + 0.3 * (1 - share)


FAMILIES: dict[str, Callable[[float, float, float, float], float]] = {
    "holding": holding,
    "crossing": crossing,
    "slow winners": slow_winners,
    "noise": noise,
}


def family(name: str) -> Curves:
    """Curves of four optimizers over their learning rates."""
    loss = FAMILIES[name]
    return Curves(
        {
            optimizer: {
                lr: [(share, loss(lr, best, low, share)) for share in SHARES] for lr in RATES
            }
            for optimizer, (best, low) in OPTIMA.items()
        }
    )


def _final(lr: float, best: float, low: float) -> float:
    """A parabola over log lr."""
    return low + 0.12 * (math.log10(lr) - best) ** 2
