"""Tables for the terminal, and numbers as they stand in them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from rich.box import SIMPLE
from rich.table import Table

from search.answer.describe import name, number, settings_of
from search.engine.analysis import best, by_optimizer, front_rows
from search.history.book import Book


def clock(seconds: float | None) -> str:
    return "?" if seconds is None else str(timedelta(seconds=int(seconds)))


def compact(**settings: Any) -> Table:
    """A table that fits 80 columns: its cells fold rather than lose their end."""
    return Table(
        title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True, **settings
    )


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
