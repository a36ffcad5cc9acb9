"""Figures of the winners: how far apart they are, how they trained, at which noise levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from search.answer.drawing import WIDTH, Context, legend_above, looks, loss_axis
from search.answer.standing import Contender, standing
from search.engine.analysis import objective, ranked, spent
from search.engine.confirm import test_metric
from search.history.book import Book


def verdicts(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Differences to the best contender with their intervals, at equal samples and equal time."""
    if not content["verdicts"]:
        return None
    panels = {"at equal samples": content["verdicts"]}
    if timed := content["equal_time"]["verdicts"]:
        panels[f"at equal training time ({content['equal_time']['seconds']:.0f} s)"] = timed
    rows = len({v["b"] for v in content["verdicts"]})
    # one panel above the other, so that it can be read on a narrow screen
    figure = Figure(figsize=(NARROW, (1.3 + 0.6 * rows) * len(panels)))
    for axes, (title, pairs) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0],
        panels.items(),
        strict=True,
    ):
        _forest(axes, [v for v in pairs if v["a"] == pairs[0]["a"]], content)
        axes.set_title(f"{title}: others against {pairs[0]['a']}", fontsize=11, loc="left")
    note = (
        "Points are mean differences over seeds, bars their intervals, which hold for all pairs "
        "at once. The grey band is the margin: a bar beyond it is a claim (blue, full), one that "
        "touches it is none. Hollow marks are as good as the best; grey ones are undecided."
    )
    return figure, note


NARROW = 6.0  # inches
WORDS = {"better": "behind", "worse": "ahead", "as good": "as good", "undecided": "undecided"}


def _forest(axes: Axes, pairs: list[dict[str, Any]], content: Context) -> None:
    share = 100 * content["margin"]
    axes.axvspan(-share, share, color="#dddddd", zorder=0)
    axes.axvline(0, color="#666666", linewidth=1)
    for place, pair in enumerate(reversed(pairs)):
        scale = -100 / pair["scale"] if pair["scale"] else -1.0
        middle = pair["difference"] * scale
        low, high = sorted(end * scale for end in pair["interval"])
        colour = "#777777" if pair["verdict"] == "undecided" else "#0072B2"
        fill = "white" if pair["verdict"] == "as good" else colour
        axes.plot([low, high], [place, place], color=colour, lw=2.5)
        axes.plot(middle, place, "o", color=colour, mfc=fill, mew=1.8, ms=7)
    names = [f"{pair['b']}\n{WORDS[pair['verdict']]}" for pair in reversed(pairs)]
    axes.set_yticks(range(len(pairs)), names)
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    metric = content["objective"]["confirmed_on"].replace("_", " ")
    axes.set_xlabel(f"{metric}, % worse than the best's")
    axes.grid(axis="y", visible=False)


def curves(book: Book, content: Context) -> tuple[Figure, str] | None:
    """The winners' loss while they trained, against samples and against training time."""
    stood, metric = standing(book, content["margin"]), test_metric(book)
    lines = list(_confirmed_curves(stood.contenders, stood.seeds, metric))
    note = f"Lines: means over {len(stood.seeds)} fresh seeds on the test part; bands: the range."
    if not lines:
        metric = objective(book)[0]
        lines = list(_search_curves(book, content, metric))
        note = "The best complete trial of each optimizer: one seed, chosen by this very loss."
    if not lines:
        return None
    figure = Figure(figsize=(WIDTH, 4.2))
    left, right = figure.subplots(1, 2, sharey=True)
    styles = looks(content)
    for name, optimizer, samples, seconds, values in lines:
        look = styles[optimizer]
        for axes, x in ((left, samples), (right, seconds)):
            drawn = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
            axes.plot(x, values.mean(0), label=name, markersize=4, linewidth=1.8, **drawn)
            if len(values) > 1:
                axes.fill_between(x, values.min(0), values.max(0), color=look.colour, alpha=0.15)
    means = [values.mean(0) for *_, values in lines]
    loss_axis(left, np.concatenate(means), metric, ends=np.array([mean[-1] for mean in means]))
    left.set_xlabel("training examples seen, thousands")
    left.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}"))
    right.set_xlabel("training time, s")
    legend_above(figure, left)
    return figure, note


Line = tuple[str, str, np.ndarray, np.ndarray, np.ndarray]


def _confirmed_curves(
    contenders: list[Contender], seeds: list[int], metric: str
) -> Iterator[Line]:
    for contender in contenders if seeds else []:
        found = [contender.curve(seed, metric) for seed in seeds]
        steps = np.array(found[0][0])
        batch = contender.source.config["batch_size"]
        values = np.array([values for _, values in found])
        time = steps * contender.seconds_per_step
        yield contender.name, contender.source.optimizer, steps * batch, time, values


def _search_curves(book: Book, content: Context, metric: str) -> Iterator[Line]:
    for name in content["optimizers"]:
        for trial in ranked(book, name)[:1]:
            steps = np.array([r["step"] for r in trial.reports])
            values = np.array([[r[metric] for r in trial.reports]])
            samples = steps * trial.config["batch_size"]
            yield name, name, samples, np.array(spent(trial)), values


def noise_levels(book: Book, content: Context) -> tuple[Figure, str] | None:
    """Each winner's loss by quartile of the noise level, relative to the lowest there."""
    confirmed = {
        one["contender"]: (name, [one["means"][f"test_loss_q{q}"] for q in range(1, 5)])
        for name, row in content["optimizers"].items()
        for one in row["contenders"]
        if one.get("means")
    }
    source = "means over the fresh seeds, on the test part"
    if not confirmed:
        source = "the best complete trial of each optimizer, on the validation part"
        confirmed = {
            name: (name, [row["best"][f"val_loss_q{q}"] for q in range(1, 5)])
            for name, row in content["optimizers"].items()
            if row["best"]
        }
    if not confirmed:
        return None
    table = np.array([values for _, values in confirmed.values()])
    excess = 100 * (table / table.min(0) - 1)
    figure = Figure(figsize=(WIDTH, 3.8))
    axes, width = figure.subplots(), 0.8 / len(confirmed)
    for place, (label, (name, _)) in enumerate(confirmed.items()):
        x = np.arange(4) + (place - (len(confirmed) - 1) / 2) * width
        axes.bar(x, excess[place], width * 0.92, label=label, color=looks(content)[name][0])
    axes.set_xticks(
        range(4), ["quartile 1\n(least noise)", "quartile 2", "quartile 3", "quartile 4\n(most)"]
    )
    axes.set_xlabel("noise level")
    axes.set_ylabel("loss above the lowest, %")
    axes.margins(y=0.12)
    axes.grid(axis="x", visible=False)
    legend_above(figure, axes)
    return figure, f"Relative to the lowest loss of each quartile: {source}."
