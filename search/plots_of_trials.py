"""Figures of the search's trials: learning rates, luck, settings, early stopping."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from search.analysis import objective, ranked
from search.drawing import COLOURS, WIDTH, Context, legend_above, looks, loss_axis
from search.history import Book, Trial


def learning_rate(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Loss against learning rate, a panel for each optimizer."""
    metric = objective(book)[0]
    trials = [t for t in book.stage("search") if t.reports]
    finals = np.array([t.last(metric) for t in trials if t.state == "complete"], dtype=float)
    if not len(finals):
        return None
    names, columns = list(content["optimizers"]), min(4, len(content["optimizers"]))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 0.8 + 2.9 * rows))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    low, high = float(finals.min()), float(finals.max())
    top = min(high, 1.6 * low) * 1.03
    for axes, name in zip(grid, names, strict=False):
        _rates(axes, [t for t in trials if t.optimizer == name], metric, top, content)
        axes.set_title(name, fontsize=11, loc="left")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    grid[0].set_ylim(low - 0.05 * (top - low), top)
    for axes in grid[::columns]:
        axes.set_ylabel(metric.replace("_", " "))
    return figure, (
        "Filled: trained in full. Hollow: stopped early, at its last loss. Arrows at the top: off "
        "the axis; red crosses: diverged. Shaded: the basin, within 5 % of the optimizer's "
        "best. Dashed: the ends of the range."
    )


def _rates(axes: Axes, trials: list[Trial], metric: str, top: float, content: Context) -> None:
    axes.set_xscale("log")
    name = trials[0].optimizer if trials else None
    if name is None:
        return
    look, rate = looks(content)[name], content["optimizers"][name]["learning_rate"]
    if rate["basin"]:
        low, high = rate["basin"]
        axes.axvspan(low / 1.08, high * 1.08, color=look.colour, alpha=0.12, linewidth=0)
    for end in rate["range"]:
        axes.axvline(end, color="#888888", linestyle="--", linewidth=1)
    for trial in trials:
        lr, value = trial.config["optimizer"]["lr"], trial.last(metric)
        full = trial.state == "complete"
        fill = look.colour if full else "none"
        if trial.state == "diverged":
            axes.plot(lr, top, "x", color="#CC0000", ms=8, mew=2, clip_on=False)
        elif value is not None and value > top:
            axes.plot(lr, top, "^", mfc=fill, mec=look.colour, ms=7, clip_on=False)
        elif value is not None:
            axes.plot(lr, value, "o", mfc=fill, mec=look.colour, ms=6)
    axes.set_xlabel("learning rate")
    axes.xaxis.set_minor_locator(NullLocator())


def best_found(book: Book, content: Context) -> tuple[Figure, str] | None:
    """The best to expect after k trials of one optimizer, and after their compute."""
    known = {n: r["expected_best"] for n, r in content["optimizers"].items() if r["expected_best"]}
    if not known:
        return None
    figure = Figure(figsize=(WIDTH, 4.2))
    left, right = figure.subplots(1, 2, sharey=True)
    for name, row in known.items():
        look = looks(content)[name]
        for axes, key in ((left, "trials"), (right, "full_trainings")):
            x, drawn = row[key], {"color": look.colour, "linestyle": look.line}
            axes.plot(x, row["mean"], marker=look.marker, ms=4, label=name, **drawn)
            axes.fill_between(x, row["low"], row["high"], color=look.colour, alpha=0.12)
    metric = content["objective"]["metric"]
    loss_axis(left, np.concatenate([row["mean"] for row in known.values()]), metric, "best ")
    left.set_xlabel("trials of this optimizer")
    right.set_xlabel("compute, in full trainings")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(figure, left)
    return figure, (
        "The expected best of k of an optimizer's trials drawn at random; bands are 95 % of a "
        "bootstrap. A sampler that learns makes later trials better, which this smooths over."
    )


def effects(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Loss above an optimizer's own best, against warmup and against clipping."""
    metric, styles = objective(book)[0], looks(content)
    trials = [t for name in content["optimizers"] for t in ranked(book, name)]
    if len(trials) < 2:
        return None
    figure = Figure(figsize=(WIDTH, 4.0))
    left, right = figure.subplots(1, 2, sharey=True)
    clips = sorted({t.config["clip_norm"] or float("inf") for t in trials})
    names = list(content["optimizers"])
    for place, name in enumerate(names):
        mine, look = ranked(book, name), styles[name]
        best = mine[0].last(metric) if mine else None
        for number, trial in enumerate(mine):
            value = trial.last(metric)
            assert best and value is not None
            excess = 100 * abs(value / best - 1)
            label = name if number == 0 else None
            drawn = {"marker": look.marker, "color": look.colour, "ms": 6, "ls": "none"}
            left.plot(100 * _warmup(trial), excess, label=label, **drawn)
            column = clips.index(trial.config["clip_norm"] or float("inf"))
            right.plot(column + (place - (len(names) - 1) / 2) * 0.12, excess, **drawn)
    left.set_yscale("symlog", linthresh=1)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set_ylim(bottom=-0.2)
    left.set_ylabel(f"{metric.replace('_', ' ')} above the\noptimizer's own best, %")
    left.set_xlabel("warmup, % of the budget")
    right.set_xlabel("largest gradient norm (clipping)")
    right.set_xticks(range(len(clips)), ["off" if c == float("inf") else f"{c:g}" for c in clips])
    legend_above(figure, left)
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
    figure = Figure(figsize=(WIDTH, 2.8))
    axes = figure.subplots()
    share = [100 * rung["samples"] / content["budget"]["samples"] for rung in known]
    axes.plot(share, [rung["correlation"] for rung in known], "o-", color=COLOURS[0])
    axes.set_ylim(min(0, *(r["correlation"] for r in known)), 1.05)
    axes.set_xlim(0, 100)
    axes.set_xlabel("rung, % of the budget")
    axes.set_ylabel("rank correlation\nwith the final loss")
    return figure, (
        f"Spearman's, over the {known[0]['trials']} trials that finished: those that were stopped "
        "have no final loss, so a high correlation is no proof."
    )
