"""What people see while a search runs."""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from search.answer.describe import name, number
from search.engine.analysis import best
from search.engine.budget import elapsed
from search.engine.confirm import planned
from search.history.book import ENDED, Book
from search.history.log import History
from search.watch.tables import clock

QUIET_PERIOD = 15.0  # seconds between lines where there is no terminal
PERIOD = 0.25  # seconds between looks at the search where there is one
SHARE = 0.05  # of the time that looks may take; with many trials they come less often
COLOURS = {"complete": "green", "running": "cyan", "diverged": "red", "failed": "red"}


class Progress:
    """One live line on a terminal; elsewhere a line now and then."""

    def __init__(self, history: History, console: Console) -> None:
        self.history, self.book, self.console = history, history.book, console
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
            wait = PERIOD
            while not self._stop.wait(wait):
                began = time.monotonic()
                live.update(self.line())
                wait = max(PERIOD, (time.monotonic() - began) / SHARE)

    def line(self) -> Text:
        """Trials by state, the best so far, the budget used, and the time left."""
        with self.history.lock:  # the driver goes on writing meanwhile
            return self._line()

    def _line(self) -> Text:
        book = self.book
        text = Text.assemble((book.id or "diffsweep", "bold"), "  ")
        counts = book.counts()
        if why := self.history.waiting():
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
