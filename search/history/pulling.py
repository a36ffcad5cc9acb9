"""The history of a search brought from storage: its segments, put together to the working copy."""

from __future__ import annotations

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from search.errors import SearchFailed
from search.history.folder import Folder
from trainable.base.durable import replace
from trainable.base.storage import AT_ONCE

HISTORY = "history/"


class Position(NamedTuple):
    """How much of the history is in storage."""

    segments: int
    size: int  # bytes


def name_of(number: int) -> str:
    return f"{HISTORY}{number:08d}.jsonl"


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
    """What the working copy has beyond the storage stays; what differs from it is set aside, since
    nothing that is not in storage was ever acted on.
    """
    storage = folder.storage
    assert storage is not None
    position = known(folder)
    names = storage.names(HISTORY, after=name_of(position.segments) if position.segments else "")
    expected = [name_of(position.segments + place) for place in range(1, len(names) + 1)]
    if names != expected:
        missing = min(set(expected) - set(names))
        raise SearchFailed(f"{storage.uri}: {missing} is missing; the history can't be read")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        content = b"".join(pool.map(storage.read, names))
    own = folder.history.read_bytes()[position.size :] if folder.history.exists() else b""
    if not own.startswith(content):
        set_aside(folder, position, own, content)
        with folder.history.open("r+b" if folder.history.exists() else "wb") as file:
            file.truncate(position.size)
            file.seek(position.size)
            file.write(content)
    position = Position(position.segments + len(names), position.size + len(content))
    remember(folder, position)
    return position


def set_aside(folder: Folder, position: Position, own: bytes, content: bytes) -> None:
    """Keep what this working copy has of its own where the storage says otherwise."""
    if content.startswith(own):
        return
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
