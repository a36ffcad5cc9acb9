"""How figures are drawn: colours, markers and axes that mean the same in all of them.

An optimizer keeps its colour (Okabe & Ito's, which colour-blind readers can tell apart), its
marker and its line style in every figure.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one less, so that a pair comes again late
LINES = ("-", "--", "-.", ":")
WIDTH = 10.0  # inches; about 1000 px on the page
STYLE: Any = {
    "font.size": 11,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "diffsweep",  # the same figure gives the same file
}


class Look(NamedTuple):
    """How an optimizer is drawn."""

    colour: str
    marker: str
    line: str


Context = dict[str, Any]  # the content of report.json


def looks(content: Context) -> dict[str, Look]:
    """A look for each optimizer, in the order of the spec."""
    names = list(content["optimizers"])
    parts = (islice(cycle(part), len(names)) for part in (COLOURS, MARKERS, LINES))
    return {name: Look(*look) for name, look in zip(names, zip(*parts, strict=True), strict=True)}


def legend_above(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, where it covers nothing."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=6)


def loss_axis(
    axes: Axes, values: np.ndarray, metric: str, prefix: str = "", ends: np.ndarray | None = None
) -> None:
    """A loss axis that shows where the curves end (`ends`), not where they began."""
    low, high = float(values.min()), float(values.max())
    if low > 0:
        last = low if ends is None else float(ends.max())
        high = min(high, max(2.2 * low, last))
    margin = 0.04 * (high - low) or 0.01 * abs(low) or 1.0  # of losses that are all the same
    axes.set_ylim(low - margin, high + margin)
    axes.set_ylabel(prefix + metric.replace("_", " "))
