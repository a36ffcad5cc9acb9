"""The history of a search as it is in storage."""

from __future__ import annotations

from contextlib import suppress

from search.history.pieces import HISTORY, Gap, chain, pieces
from trainable.base.storage import Storage


def history_in(storage: Storage) -> bytes:
    """Its segments, some of which may be joined to others while they are read."""
    while True:
        with suppress(Gap, FileNotFoundError):
            found = chain(pieces(storage.sizes(HISTORY)))
            return b"".join(piece.unpacked(storage.read(piece.name)) for piece in found)
