"""The history of a search: events appended to one file, of which everything else is a view.

An event is a line of JSON with its time. A decision is written here before it is acted on, so
whatever process dies, the study, the rungs and the MLflow runs can be made again from the file.
"""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import orjson

from search.errors import Unreadable
from search.history.book import Book, Event
from search.history.clock import SteadyClock
from trainable.base.durable import settle

FORMAT = 1
SEEN = ("report", "begin", "lose")  # what happened; the other events are decisions


class Mirror(Protocol):
    """Copies what is appended to where it survives this machine."""

    def flush(self) -> None:
        """Return when all of it is there."""

    def check(self) -> None:
        """Raise what has ended it, if something has."""

    def waiting(self) -> str | None:
        """Why not all of it is there yet, if there is more to it than a moment."""

    def size(self) -> int:
        """Bytes of the history that are there."""


class History:
    """The file, open for appending by the one driver that holds its lock.

    Without a path it is kept in memory alone, for a replay; `clock` gives seconds. With a mirror,
    a decision is in storage too before it can be acted on.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], float] | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.clock, self.book, self.mirror = clock or SteadyClock(), Book(), mirror
        self.lock = threading.Lock()  # held while the book changes, and by whoever looks at it
        self.tell: Callable[[Event], object] = lambda event: None  # called when it is applied
        self._file: FileIO | None = None
        self._gathered: list[Event] | None = None  # written, not yet durable; None: nobody gathers
        if path is None:
            return
        repair(path)
        read_into(self.book, path)
        self._file = FileIO(path, "a")

    def write(self, event: str, **content: Any) -> Event:
        """Append an event, then apply it. When this returns, a kill can't undo it.

        Nor can the loss of this machine undo a decision, when this returns or else `settle`.

        Raises:
            SearchFailed: the storage is gone for good, or another driver writes there.
            OSError: the disk did not take it; nothing of it is in the file, and it did not happen.
        """
        line: Event = {"event": event, "time": int(self.clock() * 1000), **content}
        alone, decides = self._gathered is None, event not in SEEN
        if self._file is not None:  # a lost report is made again from the checkpoint before it
            append(self._file, json.dumps(line).encode() + b"\n", lasting=alone and decides)
        with self.lock:
            self.book.apply(line)
        if self._gathered is not None:
            self._gathered.append(line)
            return line
        if self.mirror is not None and decides:  # what is only seen follows in a moment
            self.mirror.flush()
        self.tell(line)
        return line

    def gather(self) -> None:
        """Write down together what follows until `settle`; before that, nothing is acted on."""
        self._gathered = []

    def settle(self) -> None:
        """Return when all that was gathered is durable. Raises as `write`."""
        events, self._gathered = self._gathered or [], None
        if any(event["event"] not in SEEN for event in events):
            if self._file is not None:
                os.fsync(self._file.fileno())
            if self.mirror is not None:
                self.mirror.flush()
        for event in events:
            self.tell(event)

    def waiting(self) -> str | None:
        """What keeps the history from being written down, if something does."""
        return None if self.mirror is None else self.mirror.waiting()

    def check(self) -> None:
        """Raise what keeps decisions from being written down for good, even if none is made."""
        if self.mirror is not None:
            self.mirror.check()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def append(file: FileIO, line: bytes, lasting: bool) -> None:
    """Write a whole line behind all others, or nothing: a disk may be full in its middle."""
    size = os.fstat(file.fileno()).st_size
    try:
        left = memoryview(line)
        while left:
            left = left[file.write(left) :]
        if lasting:
            os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def events(path: Path) -> Iterator[Event]:
    """The events of a history; a last line that is still being written is left out.

    Raises:
        Unreadable: a line is none of a history, or of a format that this version can't read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield event_of(line, path, number)


def event_of(line: bytes, path: Path, number: int) -> Event:
    """The event in a line of a history. Raises Unreadable."""
    try:
        event = parsed(line)
        kind = event["event"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(
            f"{path}: line {number} is no event of a search, it begins {line[:40]!r}; the file "
            "was changed or damaged, and what follows can't be trusted"
        ) from error
    if kind == "start" and (found := event.get("format", FORMAT)) != FORMAT:
        raise Unreadable(f"{path}: history of format {found}, this version reads {FORMAT}")
    return event


def parsed(line: bytes) -> Event:
    """Raises ValueError: it is no JSON."""
    try:
        event: Event = orjson.loads(line)
    except orjson.JSONDecodeError:  # NaN and infinities are no JSON, but Python writes them
        event = json.loads(line)
    return event


def repair(path: Path) -> None:
    """Cut off a last line that a dying driver left unfinished."""
    path.touch()
    settle(path.parent)
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def read_book(path: Path) -> Book:
    """The state of a search, from its history."""
    book = Book()
    read_into(book, path)
    return book


def read_into(book: Book, path: Path) -> None:
    """Apply all events of a history; nothing of it is garbage, and none is looked for."""
    collects = gc.isenabled()
    gc.disable()
    try:
        for event in events(path):
            book.apply(event)
    except (LookupError, TypeError, AttributeError) as error:  # JSON, but none of our events
        what = event.get("event", "without a name") if isinstance(event, dict) else event
        raise Unreadable(
            f"{path}: an event {what!r} lacks what belongs to it ({error!r}); the file was "
            "changed or damaged, and what follows can't be trusted"
        ) from error
    finally:
        if collects:
            gc.enable()
