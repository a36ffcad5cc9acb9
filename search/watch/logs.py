"""What a search and its trials did and said, line by line, in the order of time."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from search.answer.describe import name, number
from search.errors import BadInput
from search.history.book import Book, Event
from search.history.folder import Folder
from search.history.log import events
from search.watch.status import open_book
from trainable.actor.output import FORMAT, NAME, stamp

STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ?(.*)", re.DOTALL)


class Line(NamedTuple):
    time: str  # local, as in FORMAT
    source: str  # search, driver or trial
    text: str

    def __str__(self) -> str:
        return f"{self.time}  {self.text}"


def log_lines(folder: Folder, trial: int | None = None) -> list[Line]:
    """The log of a search, or of one trial with what its process printed.

    Raises:
        BadInput: the search has no such trial.
    """
    book, lines = Book(), []
    for event in events(folder.history):
        book.apply(event)
        if trial is not None and event.get("trial") != trial:
            continue
        if text := line_of(event, book):
            told = datetime.fromtimestamp(event["time"] / 1000).strftime(FORMAT)
            lines.append(Line(told, "search", text))
    if trial is None:
        lines += stamped(folder.log, "driver")
    elif trial not in book.trials:
        raise BadInput(f"{folder.id}: has no trial {trial}; it has {len(book.trials)}, from 0")
    else:
        bring_output(folder, trial)
        for path in sorted(folder.trial(trial).glob(f"*{NAME}")):
            lines += stamped(path, "trial")
    return sorted(lines, key=lambda line: line.time)  # stable: a file's lines keep their order


def bring_output(folder: Folder, trial: int) -> None:
    """Bring what a trial's processes printed on other hosts, as far as it is in storage."""
    if folder.storage is None:
        return
    part = folder.storage.sub(f"trials/{trial}")
    for file in part.names():
        if file.endswith(NAME):
            folder.trial(trial).mkdir(parents=True, exist_ok=True)
            part.download(file, folder.trial(trial) / file)


def stamped(path: Path, source: str) -> Iterator[Line]:
    """The lines of a file; one without a time has that of the line before it."""
    if not path.exists():
        return
    last = datetime.fromtimestamp(path.stat().st_ctime).strftime(FORMAT)
    with path.open(errors="replace") as file:
        for text in file:
            if match := STAMP.match(text):
                last, text = match[1], match[2]
            if text.strip():
                yield Line(last, source, text.rstrip())


def line_of(event: Event, book: Book) -> str | None:
    """An event in words; `book` holds it already."""
    trial = book.trials.get(event["trial"]) if "trial" in event else None
    who = name(trial) if trial else ""
    match event["event"]:
        case "start":
            again = f", session {book.sessions}" if book.sessions > 1 else ""
            return f"search {book.id} begins{again}" + (f" as job {book.job}" if book.job else "")
        case "ask":
            assert trial is not None
            return f"{who} is proposed, lr {trial.config['optimizer']['lr']:.3g}"
        case "begin":
            return f"{who} begins"
        case "report":
            metrics = event["metrics"]
            return f"{who} step {metrics['step']}: val_loss {number(metrics.get('val_loss'))}"
        case "promote":
            return f"{who} goes on beyond its rung"
        case "retry":
            return f"{who} is tried again"
        case "end":
            return f"{who} is {event['state']}" + (f": {event['why']}" if event["why"] else "")
        case "finish":
            return f"search {book.id} is {event['state']}"
    return None


def tell(console: Console, event: Event, book: Book) -> None:
    """Print an event as a line of the log."""
    if text := line_of(event, book):
        console.print(f"{stamp()}  {text}", soft_wrap=True, highlight=False, markup=False)


def follow(folder: Folder, trial: int | None) -> Iterator[Line]:
    """The log, and what comes to it while the search runs."""
    return as_they_come(
        lambda: log_lines(folder, trial), lambda: open_book(folder).state == "running"
    )


def as_they_come(look: Callable[[], list[Line]], runs: Callable[[], bool]) -> Iterator[Line]:
    """The lines of a log, each once, until what writes it runs no more.

    A new line need not be the last: of a second's lines, some are brought later than others.
    """
    shown: Counter[Line] = Counter()
    while True:
        running = runs()  # before the lines, so that the last ones are seen
        seen: Counter[Line] = Counter()
        for line in look():
            seen[line] += 1
            if seen[line] > shown[line]:
                yield line
        shown = seen
        if not running:
            return
        time.sleep(1)
