"""Segments of a history are joined to larger pieces, so that a reader elsewhere has few to fetch.

The piece is created, and then what it holds is deleted. Whoever is killed in between leaves
segments that do not count and are deleted the next time. Anyone can do this at any moment, even a
driver that was cut off: what can be joined follows from what the segments hold, which never
changes, so pieces that begin alike hold the same.

Some segments are never joined, since their names keep drivers apart (segments.py). A driver that
was cut off tries to write the number after the last one that it knows of. That is the first of its
successor, or its own last, if the answer to that was lost. So both stay as they are, for ever.
"""

from __future__ import annotations

import gzip
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol

from search.history.pieces import HISTORY, Gap, Piece, chain, name_of_joined, pieces
from trainable.base.storage import Storage

LARGEST = (
    2 << 20
)  # bytes that a piece holds: few to fetch, and the last is not long to write again
EVERY = 64  # new segments after which they are joined
LOOK = 1.0  # seconds between looks at how many there are
LAST = 10.0  # seconds that it may take when the driver ends
FIRST = b'{"event": "start"'  # begins a line by which a driver begins
Content = tuple[Piece, bytes]
logger = logging.getLogger("diffsweep.joining")


class Written(Protocol):
    """What a driver has written so far."""

    recent: dict[str, bytes]  # segments by name

    def number(self) -> int | None:
        """Of the last segment; None once no more can be written."""


@contextmanager
def joining(storage: Storage, written: Written) -> Iterator[None]:
    """Join segments as they come, in a thread, and at last the rest."""
    ended = threading.Event()

    def work() -> None:
        done = 0
        while not ended.wait(LOOK):
            if (number := written.number()) is not None and number - done >= EVERY:
                tidy(storage, written, ended.is_set)
                done = number

    thread = threading.Thread(target=work, name="joining", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if written.number() is not None:
            deadline = time.monotonic() + LAST
            tidy(storage, written, lambda: time.monotonic() > deadline)


def tidy(storage: Storage, written: Written, enough: Callable[[], bool]) -> None:
    """Join what can be; that it can't be now is worth no more than a word."""
    known = dict(written.recent)
    try:
        join(storage, known, enough)
    except (OSError, EOFError, zlib.error, Gap) as error:
        logger.info("not joined: %s", error)
    for name in known:
        del written.recent[name]


def join(
    storage: Storage,
    known: Mapping[str, bytes] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Join the segments of a history, and delete what counts no more.

    `known` are contents of segments that need not be read; `enough` says whether to leave the rest
    for another time, since a history that an older version wrote takes minutes.

    Raises:
        StorageError, FileNotFoundError: it can't be reached, or someone else does the same.
        Gap: the same.
    """
    found = pieces(storage.sizes(HISTORY))
    whole = chain(found)
    if covered := [piece.name for piece in found if piece not in set(whole)]:
        storage.delete_each(covered)
    for group in groups(contents(storage, whole, known or {})):
        if len(group) > 1:
            replace(storage, group)
        if enough():
            return


def contents(
    storage: Storage, whole: Sequence[Piece], known: Mapping[str, bytes]
) -> Iterator[Content]:
    """Pieces, each segment among them with its content."""
    unknown = (piece.name for piece in whole if not piece.joined and piece.name not in known)
    read = storage.read_each(unknown)
    for piece in whole:
        if piece.joined:
            yield piece, b""
        else:
            yield piece, known[piece.name] if piece.name in known else next(read)


def groups(whole: Iterator[Content]) -> Iterator[list[Content]]:
    """Neighbours that can be joined, from the first on; the newest segment stays by itself."""
    group: list[Content] = []
    for (piece, content), (_, following) in pairwise(whole):
        stays = begins(content) or begins(following)
        if stays or piece.size + sum(other.size for other, _ in group) > LARGEST:
            yield group
            group = []
        if not stays:
            group.append((piece, content))
    yield group


def begins(content: bytes) -> bool:
    """Whether a driver begins in a segment."""
    return content.startswith(FIRST) or b"\n" + FIRST in content


def replace(storage: Storage, group: Sequence[Content]) -> None:
    """Put one piece in the place of several."""
    content = b"".join(
        piece.unpacked(storage.read(piece.name)) if piece.joined else segment
        for piece, segment in group
    )
    name = name_of_joined(group[0][0].first, group[-1][0].last, len(content))
    try:
        storage.create(name, gzip.compress(content, mtime=0))
    except FileExistsError:  # by whom it may be: it is the same, or else not there yet
        if gzip.decompress(storage.read(name)) != content:
            raise
    storage.delete_each([piece.name for piece, _ in group])
