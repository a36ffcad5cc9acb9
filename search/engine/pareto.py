"""Several objectives at once: which trials no other is better than in all of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

Aims = Sequence[tuple[str, str]]  # metrics with their modes, min or max; the first one leads
Point = tuple[float, ...]


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

    With one objective these are the ranks. A further point never moves another one forward. Each
    point looks for its front by bisection among those that may dominate it (ENS, Zhang et al.
    2015): n log n steps for n points of one or two objectives.
    """
    fronts, found = list[list[Point]](), dict[Point, int]()
    for point in sorted({tuple(point) for point in points}):
        # of two objectives, the last of a front is its lowest in the second
        some = slice(-1 if len(point) <= 2 else 0, None)
        place = bisect_left(fronts, True, key=partial(_clear_of, point, some))
        if place == len(fronts):
            fronts.append([])
        fronts[place].append(point)
        found[point] = place
    return [found[tuple(point)] for point in points]


def _clear_of(point: Point, some: slice, front: list[Point]) -> bool:
    """Whether none of some points of a front dominates another point."""
    return not any(dominates(one, point) for one in front[some])


def order(reports: Sequence[dict[str, Any]], aims: Aims) -> list[int]:
    """Places of reports, the front first, and within a layer the best by the first objective."""
    points = [signed(report, aims) for report in reports]
    if len(aims) == 1:
        return sorted(range(len(points)), key=points.__getitem__)
    depth = layers(points)
    return sorted(range(len(points)), key=lambda place: (depth[place], points[place]))
