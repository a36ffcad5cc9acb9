"""Figures of the search's trials: learning rates, luck, settings, early stopping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from search.answer.drawing import COLOURS, WIDTH, Context, legend_above, looks, loss_axis
from search.engine.analysis import objective, ranked
from search.engine.asha import LEAST_WORTH
from search.history.book import Book, Trial

MOST_MARKERS = 60  # on a line, before they hide it


def learning_rate(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Loss against learning rate, a panel for each optimizer."""
    metric = objective(book)[0]
    trials = [t for t in book.stage("search") if t.reports]
    finals = np.array([t.last(metric) for t in trials if t.state == "complete"], dtype=float)
    if not len(finals):
        return None
    figure, panels = small_multiples(list(content["optimizers"]))
    low, high = float(finals.min()), float(finals.max())
    top = min(high, 1.6 * low) * 1.03
    for name, axes in panels.items():
        _rates(axes, [t for t in trials if t.optimizer == name], metric, top, content)
        axes.set_xlabel("learning rate")
    first = next(iter(panels.values()))
    first.set_ylim(low - 0.05 * (top - low), top)
    for axes in panels.values():
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel(metric.replace("_", " "))
    packed = {"fontsize": 9.5, "handletextpad": 0.4, "columnspacing": 1.2}
    figure.legend(handles=RATE_LEGEND, loc="outside upper left", ncols=6, **packed)
    return figure, (
        "A trial that was stopped early is drawn at its last loss, so it might have ended lower."
    )


GREY = "#555555"
RATE_LEGEND = [
    Line2D([], [], marker="o", ls="none", mfc=GREY, mec=GREY, label="trained in full"),
    Line2D([], [], marker="o", ls="none", mfc="none", mec=GREY, label="stopped early"),
    Line2D([], [], marker="^", ls="none", mfc="none", mec=GREY, label="above the axis"),
    Line2D([], [], marker="x", ls="none", color="#CC0000", mew=2, label="diverged"),
    Patch(color=GREY, alpha=0.15, label="within 5 % of its best"),
    Line2D([], [], color="#888888", ls="--", lw=1, label="ends of the range"),
]


def small_multiples(names: list[str]) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each optimizer, with the same vertical axis."""
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.9 * rows))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    panels = dict(zip(names, grid, strict=False))
    for name, axes in panels.items():
        axes.set_title(name, fontsize=11, loc="left", pad=10)
        axes.tick_params(axis="x", labelsize=9.5)
    return figure, panels


def _rates(axes: Axes, trials: list[Trial], metric: str, top: float, content: Context) -> None:
    axes.set_xscale("log")
    name = trials[0].optimizer if trials else None
    if name is None:
        return
    look, rate = looks(content)[name], content["optimizers"][name]["learning_rate"]
    if rate["basin"]:
        low, high = rate["basin"]
        axes.axvspan(low / 1.08, high * 1.08, color=look.colour, alpha=0.12, linewidth=0)
    upright = axes.get_xaxis_transform()  # x as it is, y from the bottom to the top
    for end in rate["range"]:
        axes.plot([end, end], [0, 1], "--", color="#888888", linewidth=1, transform=upright)
    marks: dict[str, dict[str, Any]] = {
        "x": {"color": "#CC0000", "ms": 8, "mew": 2, "clip_on": False},
        "^": {"mec": look.colour, "ms": 7, "clip_on": False},
        "o": {"mec": look.colour, "ms": 6},
    }
    points = defaultdict[tuple[str, str], list[tuple[float, float]]](list)
    for trial in trials:
        lr, value = trial.config["optimizer"]["lr"], trial.last(metric)
        fill = look.colour if trial.state == "complete" else "none"
        if trial.state == "diverged":
            points["x", fill].append((lr, top))
        elif value is not None:
            points["^" if value > top else "o", fill].append((lr, min(value, top)))
    for (mark, fill), places in points.items():
        axes.plot(*zip(*places, strict=True), mark, mfc=fill, **marks[mark])
    left, right = axes.get_xlim()
    few = right / left < 30  # below one and a half decades, powers of ten are too few
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if few else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def best_found(book: Book, content: Context) -> tuple[Figure, str] | None:
    """The best to expect after k trials of one optimizer, against their compute."""
    known = {n: r["expected_best"] for n, r in content["optimizers"].items() if r["expected_best"]}
    if not known:
        return None
    few = all(row["trials"][-1] <= MOST_MARKERS for row in known.values())
    figure, panels = small_multiples(list(known))
    for name, axes in panels.items():
        look, row = looks(content)[name], known[name]
        for other in known.values():
            axes.plot(other["full_trainings"], other["mean"], color="#cccccc", lw=1)
        x = row["full_trainings"]
        axes.plot(x, row["mean"], marker=look.marker if few else "", ms=4, color=look.colour)
        axes.set_xlabel("compute, full trainings")
        each = x[0] or 1.0  # a trial's compute, a mean over those of the optimizer
        count = axes.secondary_xaxis("top", functions=scaled(each))
        count.set_xlabel("trials", fontsize=9)
        count.xaxis.set_major_locator(MaxNLocator(integer=True))
    metric = content["objective"]["metric"]
    means = np.concatenate([row["mean"] for row in known.values()])
    ends = np.array([row["mean"][-1] for row in known.values()])
    for axes in panels.values():
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            loss_axis(axes, means, metric, "best ", ends)
    handles = [
        Line2D([], [], color=GREY, marker="o", ms=4, label="one more trial at each marker"),
        Line2D([], [], color="#cccccc", lw=1, label="the other optimizers"),
    ]
    figure.legend(handles=handles[not few :], loc="outside upper left", ncols=3)
    return figure, (
        "The best to expect of as many trials of an optimizer, drawn at random from those it had. "
        "A sampler that learns makes later trials better, which this smooths over."
    )


def scaled(unit: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """From an axis to one that counts in this unit, and back."""
    return (lambda x: x / unit), (lambda count: count * unit)


def effects(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Loss above an optimizer's own best, against warmup and clipping where they were searched."""
    metric, styles = objective(book)[0], looks(content)
    trials = [t for name in content["optimizers"] for t in ranked(book, name)]
    if len(trials) < 2:
        return None
    clips = sorted({t.config["clip_norm"] or float("inf") for t in trials})
    names = list(content["optimizers"])

    def clip_place(trial: Trial) -> float:
        column = clips.index(trial.config["clip_norm"] or float("inf"))
        return column + (names.index(trial.optimizer) - (len(names) - 1) / 2) * 0.12

    varied: dict[str, Callable[[Trial], float]] = {}
    if len({_warmup(trial) for trial in trials}) > 1:
        varied["warmup, % of the budget"] = lambda trial: 100 * _warmup(trial)
    if len(clips) > 1:
        varied["largest gradient norm (clipping)"] = clip_place
    if not varied:
        return None
    figure = Figure(figsize=(WIDTH, 4.0))
    for axes, (label, place) in zip(
        figure.subplots(1, len(varied), sharey=True, squeeze=False)[0], varied.items(), strict=True
    ):
        for name in names:
            mine = ranked(book, name)
            best = mine[0].last(metric) if mine else None
            excess = [100 * abs((t.last(metric) or 0) / best - 1) for t in mine if best]
            look = styles[name]
            drawn = {"marker": look.marker, "color": look.colour, "ms": 6, "ls": "none"}
            axes.plot([place(t) for t in mine], excess, label=name, **drawn)
        axes.set_xlabel(label)
        if place is clip_place:
            shown = ["off" if c == float("inf") else f"{c:g}" for c in clips]
            axes.set_xticks(range(len(clips)), shown)
    first = figure.axes[0]
    first.set_yscale("symlog", linthresh=1)
    first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    first.set_ylim(bottom=-0.2)
    first.set_ylabel(f"{metric.replace('_', ' ')} above the\noptimizer's own best, %")
    legend_above(figure, first)
    return figure, (
        "Complete trials, each against the best of its own optimizer. Learning rates differ "
        "between the points, so a pattern is a hint, not a proof."
    )


def _warmup(trial: Trial) -> float:
    given = trial.config["warmup"]
    steps = given["steps"] / trial.config["steps"] if isinstance(given, dict) else given
    return float(steps)


def importances(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Each setting's share in explaining the loss, within one optimizer."""
    known = {n: r["importance"] for n, r in content["optimizers"].items() if r["importance"]}
    if not known:
        return None
    rows = max(len(shares) for shares in known.values())
    figure = Figure(figsize=(WIDTH, 1.2 + 0.35 * rows))
    panels = figure.subplots(1, len(known), sharex=True, squeeze=False)[0]
    for axes, (name, shares) in zip(panels, known.items(), strict=True):
        keys = sorted(shares, key=lambda key: shares[key])
        axes.barh(keys, [100 * shares[key] for key in keys], color=looks(content)[name].colour)
        axes.set_title(name, fontsize=11, loc="left")
        axes.set_xlabel("share of explained variance, %")
        axes.grid(axis="y", visible=False)
    return figure, (
        "Functional ANOVA over the complete trials of one optimizer; with so few trials, take it "
        "as a rough order. It says nothing about the choice of the optimizer itself."
    )


def rung_ranks(book: Book, content: Context) -> tuple[Figure, str] | None:
    """How well ranks at the rungs agree with the final ones."""
    known = [rung for rung in content["rungs"] if rung["correlation"] is not None]
    if not known:
        return None
    figure, styles = Figure(figsize=(WIDTH, 2.8)), looks(content)
    axes = figure.subplots()
    groups = {tuple(rung["optimizers"]): None for rung in known}
    for group in groups:
        rungs = [rung for rung in known if tuple(rung["optimizers"]) == group]
        share = [100 * rung["samples"] / content["budget"]["samples"] for rung in rungs]
        colour = styles[group[0]].colour if group else COLOURS[0]
        line: dict[str, Any] = {"color": colour, "ls": styles[group[0]].line if group else "-"}
        axes.plot(
            share, [r["correlation"] for r in rungs], marker="o", label=" ".join(group), **line
        )
        for x, rung in zip(share, rungs, strict=True):
            if rung["overruled"]:
                axes.plot(x, rung["correlation"], "o", mfc="white", mec=colour, ms=9)
    if any(groups):
        legend_above(figure, axes)
    axes.set_ylim(min(0, *(r["correlation"] for r in known)), 1.05)
    axes.set_xlim(0, 100)
    axes.set_xlabel("rung, % of the budget")
    axes.set_ylabel("rank correlation\nwith the final loss")
    axes.axhline(LEAST_WORTH, color="#888888", linestyle="--", linewidth=1)
    return figure, (
        "Spearman's, from rung to rung over those that went on, and corrected for who was let "
        "on. With measured grace, a rung below the dashed line is overruled (hollow): it holds "
        "nobody back."
    )
