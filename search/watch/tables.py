"""Tables for the terminal, and numbers as they stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.answer.describe import name, number, settings_of
from search.engine.analysis import best, by_optimizer, front_rows
from search.history.book import Book

MANY = 500  # rows of a table, from which on it is plain


def clock(seconds: float | None) -> str:
    return "?" if seconds is None else str(timedelta(seconds=int(seconds)))


def compact(**settings: Any) -> Table:
    """A table that fits 80 columns: its cells fold rather than lose their end."""
    return Table(
        title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True, **settings
    )


def show_rows(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of texts. Of very many rows it is plain: to draw one takes half a millisecond."""
    if len(rows) <= MANY:
        table = compact()
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
        return
    lines = [[column.replace("\n", " ") for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    console.out("\n".join(padded), highlight=False)


def result_table(book: Book) -> Table:
    """The search by optimizer."""
    table = compact(title=f"{book.id}: {book.state}")
    columns = (
        "optimizer",
        "trials",
        "stopped\nearly",
        "diverged",
        "best\nval_loss",
        "its lr",
        "steps/s",
        "state\nbytes/\nweight",
    )
    for column in columns:
        justify: Literal["left", "right"] = "left" if column == "optimizer" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    winner = best(book)
    for optimizer, row in by_optimizer(book).items():
        top = row["best"]
        wins = winner is not None and optimizer == winner.optimizer
        table.add_row(
            optimizer,
            str(row["trials"]),
            str(row["pruned"]),
            str(row["diverged"]),
            number(top and top["val_loss"]),
            number(top and top["lr"], ".2g"),
            number(row["steps_per_second"], ".1f"),
            number(row["bytes_per_parameter"], ".1f"),
            style="bold green" if wins else None,
        )
    return table


def front_table(found: dict[str, Any]) -> Table:
    """The Pareto front of several objectives."""
    columns, rows = front_rows(found)
    table = compact(title="Pareto front")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def best_config(book: Book) -> Table | str:
    """What the best trial was told."""
    winner = best(book)
    if winner is None:
        return "No trial is complete."
    table = compact(title=f"best config: {name(winner)}", show_header=False)
    for key, value in {"optimizer": winner.optimizer, **settings_of(winner)}.items():
        table.add_row(key, value)
    return table
