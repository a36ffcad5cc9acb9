"""Several objectives at once: which trials no other is better than in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Aims = Sequence[tuple[str, str]]  # metrics with their modes, min or max; the first one leads


def better(mode: str) -> Callable[[float], float]:
    """A sort key: the best value comes first."""
    return (lambda value: value) if mode == "min" else (lambda value: -value)


def signed(report: dict[str, Any], aims: Aims) -> list[float]:
    """A report's objectives, smaller is better; one that it lacks is as bad as can be."""
    values = ((report.get(metric), better(mode)) for metric, mode in aims)
    return [
        math.inf if value is None or not math.isfinite(value) else key(value)
        for value, key in values
    ]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere worse than `b`, and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def layers(points: Sequence[Sequence[float]]) -> list[int]:
    """Non-dominated sorting (Goldberg 1989): 0 for the front, 1 for the front behind it, ...

    With one objective these are the ranks. A further point never moves another one forward.
    """
    order = sorted(range(len(points)), key=lambda place: tuple(points[place]))
    found = [0] * len(points)
    for position, place in enumerate(order):  # what dominates a point comes before it
        behind = [
            found[other] + 1
            for other in order[:position]
            if dominates(points[other], points[place])
        ]
        found[place] = max(behind, default=0)
    return found


def order(reports: Sequence[dict[str, Any]], aims: Aims) -> list[int]:
    """Places of reports, the front first, and within a layer the best by the first objective."""
    points = [signed(report, aims) for report in reports]
    if len(aims) == 1:
        return sorted(range(len(points)), key=points.__getitem__)
    depth = layers(points)
    return sorted(range(len(points)), key=lambda place: (depth[place], points[place]))
