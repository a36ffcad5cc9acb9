"""The report's figures: each drawn once, as SVG for the page and as PNG for MLflow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from search.answer.drawing import STYLE, Context
from search.answer.plot_front import pareto_front
from search.answer.plots_of_trials import (
    best_found,
    effects,
    importances,
    learning_rate,
    rung_ranks,
)
from search.answer.plots_of_winners import curves, noise_levels, verdicts
from search.history.book import Book

DPI = 130  # of the PNGs
Draw = Callable[[Book, Context], tuple[Figure, str] | None]  # the figure, and a note on it


class Drawing(NamedTuple):
    """A figure of the page: its name (the PNG's), its title, and what a reader should know."""

    name: str
    title: str
    note: str
    svg: str


FIGURES: dict[str, tuple[str, Draw]] = {
    "verdicts": ("How far the others are from the best", verdicts),
    "pareto": ("The Pareto front", pareto_front),
    "curves": ("Loss of the winners while they trained", curves),
    "learning_rate": ("Loss against learning rate", learning_rate),
    "best_found": ("What more trials would have brought", best_found),
    "noise_levels": ("Loss by noise level", noise_levels),
    "effects": ("Warmup and clipping", effects),
    "importance": ("What mattered within one optimizer", importances),
    "rungs": ("Could early stopping have misled?", rung_ranks),
}


def draw_all(book: Book, content: Context, folder: Path) -> dict[str, Drawing]:
    """Draw every figure that the trials have data for; the PNGs go to `folder`."""
    drawings: dict[str, Drawing] = {}
    for old in folder.glob("*.png"):
        old.unlink()
    for name, (title, draw) in FIGURES.items():
        with matplotlib.rc_context(STYLE):
            drawn = draw(book, content)
            if drawn is None:
                continue
            figure, note = drawn
            figure.savefig(folder / f"{name}.png", dpi=DPI)
            figure.set_layout_engine("none")  # laid out once, which takes the most time
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Date": None})
        drawings[name] = Drawing(name, title, note, stream.getvalue())
    return drawings
