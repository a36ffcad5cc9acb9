"""The history of a search brought from storage: its pieces, put together to the working copy."""

from __future__ import annotations

import fcntl
import json
import time
from typing import NamedTuple

from search.errors import SearchFailed
from search.history.folder import Folder
from search.history.pieces import HISTORY, Gap, Piece, chain, name_of, pieces
from trainable.base.durable import replace
from trainable.base.storage import Storage

WAITS = (0.0, 0.1, 0.5, 2.0)  # seconds before it is looked again for what is not there


class Position(NamedTuple):
    """How much of the history is in storage."""

    segments: int  # the number of the last
    size: int  # bytes


def pull(folder: Folder) -> Position:
    """Bring the working copy up to what is in storage, and return how much that is.

    Raises:
        StorageError: it can't be reached.
        SearchFailed: a segment is missing.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / "pull.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several commands at once
        return _pull(folder)


def _pull(folder: Folder) -> Position:
    """As `pull`. What is not there may have been joined with others since it was looked for."""
    assert folder.storage is not None
    missing = ""
    for wait in WAITS:
        time.sleep(wait)
        try:
            return _bring(folder, folder.storage)
        except Gap as error:
            missing = str(error)
        except FileNotFoundError:
            missing = "a segment"
    uri = folder.storage.uri
    raise SearchFailed(f"{uri}: {missing} is missing; the history can't be read")


def _bring(folder: Folder, storage: Storage) -> Position:
    """What the working copy has beyond the storage stays; what differs from it is set aside, since
    nothing that is not in storage was ever acted on.
    """
    position = known(folder)
    start, news = _news(storage, position)
    if not news:
        return position
    folder.history.touch()
    with folder.history.open("r+b") as file:
        for piece, packed in zip(news, storage.read_each(p.name for p in news), strict=True):
            content = piece.unpacked(packed)[position.size - start :]
            start += piece.size
            file.seek(position.size)
            own = file.read(len(content))
            if own != content:
                own += file.read()
                if not content.startswith(own):
                    set_aside(folder, own)
                file.seek(position.size)
                file.truncate()
                file.write(content)
            position = Position(piece.last, start)
    remember(folder, position)
    return position


def _news(storage: Storage, position: Position) -> tuple[int, list[Piece]]:
    """The pieces that hold what comes after a position, and how many bytes come before them.

    Raises Gap.
    """
    if position.segments:
        found = storage.sizes(HISTORY, after=name_of(position.segments))
        try:
            return position.size, chain(pieces(found), position.segments)
        except Gap:  # joined with what comes before, or missing
            pass
    whole = chain(pieces(storage.sizes(HISTORY)))
    news = [piece for piece in whole if piece.last > position.segments]
    return sum(piece.size for piece in whole[: len(whole) - len(news)]), news


def set_aside(folder: Folder, own: bytes) -> None:
    """Keep what this working copy has of its own where the storage says otherwise."""
    number = len(list(folder.path.glob("history.cut-off-*.jsonl"))) + 1
    (folder.path / f"history.cut-off-{number}.jsonl").write_bytes(own)
    folder.delivered.unlink(missing_ok=True)  # it counts bytes of the other history


def known(folder: Folder) -> Position:
    """How much of the history this working copy knows to be in storage."""
    if not folder.pulled.exists() or not folder.history.exists():
        return Position(0, 0)
    try:
        segments, size = map(int, json.loads(folder.pulled.read_text()))
    except (ValueError, TypeError):  # a power cut's leavings; all can be brought again
        return Position(0, 0)
    whole = size <= folder.history.stat().st_size
    return Position(segments, size) if whole else Position(0, 0)


def remember(folder: Folder, position: Position) -> None:
    replace(folder.pulled, json.dumps(position).encode())
