"""What people see while a search runs, and the table when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.analysis import best, by_optimizer, front_rows
from search.budget import elapsed
from search.confirm import planned
from search.describe import name, number, settings_of
from search.history import ENDED, Book

QUIET_PERIOD = 15.0  # seconds between lines where there is no terminal
COLOURS = {"complete": "green", "running": "cyan", "diverged": "red", "failed": "red"}


class Progress:
    """One live line on a terminal; elsewhere a line now and then."""

    def __init__(
        self, book: Book, console: Console, waiting: Callable[[], str | None] = lambda: None
    ) -> None:
        self.book, self.console, self.waiting = book, console, waiting
        self.note = "starting"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        if not self.console.is_terminal:
            while not self._stop.wait(QUIET_PERIOD):
                self.console.print(self.line(), soft_wrap=True)
            return
        with Live(self.line(), console=self.console, refresh_per_second=4, transient=True) as live:
            while not self._stop.wait(0.25):
                live.update(self.line())

    def line(self) -> Text:
        """Trials by state, the best so far, the budget used, and the time left."""
        book = self.book
        text = Text.assemble((book.id or "diffsweep", "bold"), "  ")
        counts = book.counts()
        if why := self.waiting():
            text.append(f"{why}  ", "yellow")
        if not counts:
            return text.append(self.note)
        for state, count in counts.items():
            text.append(f"{count} {state}  ", COLOURS.get(state, ""))
        if (trial := best(book)) is not None:
            text.append(f"best {number(trial.last('val_loss'))} ({name(trial)})  ", "bold")
        total = book.spec["budget"]["trials"] + planned(book)
        text.append(f"{sum(t.state in ENDED for t in book.trials.values())}/{total} trials  ")
        text.append(f"{clock(elapsed(book, time.time()))}, about {clock(time_left(book))} left")
        return text


def time_left(book: Book) -> float | None:
    """Seconds until the trials are through, at the pace so far; None before there is one."""
    shares = [
        1.0 if t.state in ENDED else t.samples / t.full_samples for t in book.trials.values()
    ]
    done = sum(shares)
    if done < 1:
        return None
    left: float = book.spec["budget"]["trials"] + planned(book) - done
    return max(0.0, left * elapsed(book, time.time()) / done)


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
