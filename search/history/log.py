"""The history of a search: events appended to one file, of which everything else is a view.

An event is a line of JSON with its time. A decision is written here before it is acted on, so
whatever process dies, the study, the rungs and the MLflow runs can be made again from the file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from search.errors import BadInput
from search.history.book import Book, Event

FORMAT = 1


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
        clock: Callable[[], float] = time.time,
        mirror: Mirror | None = None,
    ) -> None:
        self.clock, self.book, self.mirror = clock, Book(), mirror
        self.tell: Callable[[Event], object] = lambda event: None  # called when it is applied
        self._file: IO[bytes] | None = None
        if path is None:
            return
        repair(path)
        for event in events(path):
            self.book.apply(event)
        self._file = path.open("ab")

    def write(self, event: str, **content: Any) -> Event:
        """Append an event, then apply it. When this returns, a kill can't undo it.

        Raises:
            SearchFailed: the storage is gone for good, or another driver writes there.
        """
        line: Event = {"event": event, "time": int(self.clock() * 1000), **content}
        if self._file is not None:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            if event != "report":  # a lost report is made again from the checkpoint before it
                os.fsync(self._file.fileno())
        self.book.apply(line)
        if self.mirror is not None and event != "report":  # reports follow in a moment
            self.mirror.flush()
        self.tell(line)
        return line

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


def events(path: Path) -> Iterator[Event]:
    """The events of a history; a last line that is still being written is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def repair(path: Path) -> None:
    """Cut off a last line that a dying driver or a full disk left unfinished.

    Raises:
        BadInput: the history is of a format that this version can't read.
    """
    path.touch()
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    if whole and (found := json.loads(content[: content.find(b"\n")]).get("format")) != FORMAT:
        raise BadInput(f"{path}: history of format {found}, this version reads {FORMAT}")


def read_book(path: Path) -> Book:
    """The state of a search, from its history."""
    book = Book()
    for event in events(path):
        book.apply(event)
    return book
