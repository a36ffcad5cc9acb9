"""Several objectives at once: which trials no other is better than in all of them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Aims = Sequence[tuple[str, str]]  # metrics with their modes, min or max; the first one leads
Point = tuple[float, ...]  # objectives of a report, smaller is better


def better(mode: str) -> Callable[[float], float]:
    """A sort key: the best value comes first."""
    return (lambda value: value) if mode == "min" else (lambda value: -value)


def signed(report: dict[str, Any], aims: Aims) -> Point:
    """A report's objectives, smaller is better; one that it lacks is as bad as can be."""
    values = ((report.get(metric), better(mode)) for metric, mode in aims)
    return tuple(
        math.inf if value is None or not math.isfinite(value) else key(value)
        for value, key in values
    )


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is nowhere worse than `b`, and somewhere better."""
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


class Fronts:
    """Non-dominated sorting (Goldberg 1989): a front, the front behind it, and so on.

    Each point looks for its front by bisection among those that may dominate it (ENS, Zhang et
    al. 2015): n log n steps for n points of one or two objectives. Of no more than the `most`
    first fronts, if that is all that is wanted.
    """

    def __init__(self, points: Iterable[Point], most: float = math.inf) -> None:
        self.fronts: list[list[Point]] = []  # each ascending
        self.depth: dict[Point, int] = {}
        lowest: list[float] = []  # of each front, in the last objective; it ascends
        for point in sorted(points):
            # of two objectives, the last of a front is its lowest in the second
            flat = len(point) <= 2
            place = bisect_right(lowest, point[-1]) if flat else self.place(point)
            if place >= most or point in self.depth:
                continue
            if place == len(self.fronts):
                self.fronts.append([])
                lowest.append(math.inf)
            lowest[place] = point[-1]
            self.fronts[place].append(point)
            self.depth[point] = place

    def place(self, point: Point) -> int:
        """The front that a point is in, or would be: the first of which none dominates it."""
        known = self.depth.get(point)
        if known is not None:
            return known
        return bisect_left(self.fronts, True, key=lambda front: _clear_of(point, front))


def _clear_of(point: Point, front: list[Point]) -> bool:
    """Whether none of a front dominates another point."""
    before = bisect_right(front, point)  # all that come later are worse in the first objective
    rivals = front[max(0, before - 1) : before] if len(point) <= 2 else front[:before]
    return not any(dominates(one, point) for one in rivals)


def layers(points: Sequence[Point]) -> list[int]:
    """The front of each point: 0 for the first, 1 for the one behind it, ...

    With one objective these are the ranks. A further point never moves another one forward.
    """
    depth = Fronts(points).depth
    return [depth[point] for point in points]


def order(reports: Sequence[dict[str, Any]], aims: Aims) -> list[int]:
    """Places of reports, the front first, and within a layer the best by the first objective."""
    points = [signed(report, aims) for report in reports]
    depth = layers(points) if len(aims) > 1 else [0] * len(points)
    return sorted(range(len(points)), key=lambda place: (depth[place], points[place]))
