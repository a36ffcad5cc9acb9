"""The report of a search: written as a page, as JSON and as pictures, and told in a sentence."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console

from search.answer.content import report_of
from search.answer.describe import name as trial_name
from search.engine.analysis import ranked
from search.errors import ReportFailed
from search.history.book import Book
from search.history.folder import Folder
from search.judging.comparing import MARGIN


def write_report(folder: Folder, book: Book, margin: float = MARGIN) -> dict[str, Any]:
    """Write report.html, report.json and the plots to the search's folder; return the numbers.

    Raises:
        ReportFailed: it could not be written; why is in the search's driver.log.
    """
    try:
        return _write(folder, book, margin)
    except Exception as error:  # whatever it is, the search is done and none of it is lost
        with folder.log.open("a") as log:
            traceback.print_exc(file=log)
        raise ReportFailed(
            f"{folder.id} is {book.state}, but its report failed: {type(error).__name__}: {error} "
            f"(more in {folder.log}); try again with: diffsweep report {folder.id}"
        ) from error


def _write(folder: Folder, book: Book, margin: float) -> dict[str, Any]:
    from search.answer.page import page
    from search.answer.plots import draw_all

    content = report_of(book, margin)
    target = folder.report
    target.mkdir(exist_ok=True)
    figures = draw_all(book, content, target)
    (target / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    (target / "report.html").write_text(page(content, figures, _grids(folder, book, content)))
    return content


def show_answer(folder: Folder, content: dict[str, Any], console: Console) -> None:
    """The verdict in one sentence, its warnings, and where the whole report lies."""
    console.print(f"[bold]{content['answer']}[/]")
    if timed := content["answer_at_equal_time"]:
        console.print(timed, style="dim")
    if deciding := content["decide"]:
        why = f"{deciding['why'][:1].upper()}{deciding['why'][1:]}"
        console.print(f"{why}:\n  {deciding['run']}", markup=False, highlight=False)
    for warning in content["warnings"]:
        console.print(f"! {warning}", style="yellow", markup=False)
    console.print(f"Report: {folder.report / 'report.html'}", soft_wrap=True, markup=False)


def _grids(folder: Folder, book: Book, content: dict[str, Any]) -> dict[str, Path]:
    """A sample grid for each winner: from the same noise, where they were confirmed."""
    grids: dict[str, Path] = {}
    for row in content["confirm"]:
        grid = folder.grid(row["trial"])
        if row["contender"] and grid.exists():
            grids.setdefault(row["contender"], grid)
    if not grids:
        for name in content["optimizers"]:
            for trial in ranked(book, name)[:1]:
                grid = folder.grid(trial.number)
                grids |= {trial_name(trial): grid} if grid.exists() else {}
    return grids
