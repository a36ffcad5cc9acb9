"""The history in storage: numbered segments, and pieces that several of them were joined to.

`history/00000007.jsonl` is a segment, as a driver wrote it.
`history/00000008-00000070.52340.jsonl.gz` is a piece of 63, which had 52,340 bytes before they
were packed. Where it is, the segments and pieces that it holds do not count.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

HISTORY = "history/"
SEGMENT = re.compile(rf"^{HISTORY}(\d{{8,}})\.jsonl$")
JOINED = re.compile(rf"^{HISTORY}(\d{{8,}})-(\d{{8,}})\.(\d+)\.jsonl\.gz$")


class Gap(LookupError):
    """A segment that should be there is not."""


class Piece(NamedTuple):
    """Segments in storage under one name."""

    first: int
    last: int
    size: int  # bytes of what it holds
    name: str

    @property
    def joined(self) -> bool:
        return self.name.endswith(".gz")

    def unpacked(self, content: bytes) -> bytes:
        return gzip.decompress(content) if self.joined else content


def name_of(number: int) -> str:
    return f"{HISTORY}{number:08d}.jsonl"


def name_of_joined(first: int, last: int, size: int) -> str:
    return f"{HISTORY}{first:08d}-{last:08d}.{size}.jsonl.gz"


def pieces(sizes: Mapping[str, int]) -> list[Piece]:
    """The pieces among names, of each of which the bytes in storage are given."""
    found = []
    for name, size in sizes.items():
        if match := SEGMENT.match(name):
            found.append(Piece(int(match[1]), int(match[1]), size, name))
        elif match := JOINED.match(name):
            found.append(Piece(int(match[1]), int(match[2]), int(match[3]), name))
    return found


def chain(found: Iterable[Piece], after: int = 0) -> list[Piece]:
    """The fewest pieces that hold all segments after number `after`. Raises Gap."""
    from_here: dict[int, Piece] = {}
    last = after
    for piece in found:
        last = max(last, piece.last)
        from_here[piece.first] = max(piece, from_here.get(piece.first, piece))
    whole: list[Piece] = []
    while after < last:
        if after + 1 not in from_here:
            raise Gap(name_of(after + 1))
        whole.append(from_here[after + 1])
        after = whole[-1].last
    return whole
