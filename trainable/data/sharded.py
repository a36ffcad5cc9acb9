"""Examples that lie in files, because they don't fit in memory.

A file is mapped, not read: what a batch asks for is fetched from the disk, and what memory the
system has to spare keeps it for the next time, for all trials of a machine together. Trials get
the names of the files and no copies. Since a disk is fastest at what lies together, a training
mixes the examples of a few shards at a time, in an order of shards that is drawn for each epoch.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainable.data.examples import as_float32

if TYPE_CHECKING:  # torch takes seconds to import, and bad data is told without it
    import torch
    from torch import Tensor

MIXED = 4  # shards whose examples are mixed with one another
PIECE = 64 << 20  # bytes that are looked at in one go


class Shard(NamedTuple):
    """One array in a file, [rows, *shape], in C order from `offset` on."""

    path: str
    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(array: np.memmap) -> Shard:
        """The place of a mapped array, so that it is mapped again elsewhere, not copied.

        Raises:
            ValueError: it is not a whole array in C order.
        """
        if array.filename is None or not array.flags.c_contiguous:
            raise ValueError("a mapped array has to be a whole file's, in C order")
        start = array.__array_interface__["data"][0]
        base = array
        while isinstance(base.base, np.memmap):
            base = base.base
        offset = base.offset + start - base.__array_interface__["data"][0]
        return Shard(str(Path(array.filename).absolute()), offset, array.shape, array.dtype.str)

    def open(self) -> np.ndarray:
        """The array, mapped.

        Raises:
            ValueError: the file is not there, or shorter than it was.
        """
        try:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"dataset: can't map {self.path} ({error}); every host that trains needs it"
            ) from error


class Sharded:
    """Rows of shards as one array [N, *shape], of which any selection can be had.

    `rows` are the numbers, counted over all shards, of the examples that belong to it.
    Examples whose channels are last in the files come out with them first.
    """

    def __init__(
        self, shards: tuple[Shard, ...], rows: np.ndarray | None = None, last: bool = False
    ) -> None:
        self.shards = shards
        self.ends = np.cumsum([shard.shape[0] for shard in shards])
        self.rows = np.arange(self.ends[-1]) if rows is None else rows
        self.dtype = np.dtype(shards[0].dtype)
        self.inner = inner = shards[0].shape[1:]  # of an example, as it is in the files
        self.images = self.dtype == np.uint8 and len(inner) == 3
        self.last = last
        self.shape = (len(self.rows), *((inner[2], *inner[:2]) if last else inner))
        self.limit, self.digest = 1.0, b""  # what a survey finds: largest value, fingerprint
        self._open: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # names of files, not what is in them

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the files; none of them are in memory for long."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def array(self, shard: int) -> np.ndarray:
        if shard not in self._open:
            self._open[shard] = self.shards[shard].open()
        return self._open[shard]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The selected examples, float32 or the uint8 of images, in memory."""
        rows = self.rows[index]
        where = np.searchsorted(self.ends, rows, side="right")
        found = np.empty((len(rows), *self.shards[0].shape[1:]), self.dtype)
        for shard in np.unique(where):
            here = where == shard
            start = self.ends[shard] - self.shards[shard].shape[0]
            found[here] = self.array(int(shard))[rows[here] - start]
        return self.turned(found)

    def turned(self, found: np.ndarray) -> np.ndarray:
        """Examples as they lie in a file, as they are given out."""
        if self.last:
            found = np.ascontiguousarray(np.moveaxis(found, -1, 1))
        if self.dtype.kind != "f":  # images, or classes
            return found
        return found.astype(np.float32, copy=False)

    def laid(self, last: bool) -> Sharded:
        """The same examples, of which it is known now where their channels are."""
        return Sharded(self.shards, self.rows, last)

    def only(self, rows: np.ndarray) -> Sharded:
        """The same files with another choice of rows."""
        part = Sharded(self.shards, rows, self.last)
        part.limit, part.digest = self.limit, self.digest
        return part

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Numbers of `count` examples drawn over all shards, in their order."""
        drawn = np.random.default_rng(seed).permutation(len(self))[:count]
        return np.sort(drawn)

    def order(self, generator: torch.Generator) -> Tensor:
        """An epoch's order, int64 [N]: shards shuffled, then the examples of a few at a time."""
        import torch

        shards = torch.randperm(len(self.shards), generator=generator).tolist()
        where = np.searchsorted(self.ends, self.rows, side="right")  # rows rise, and so do these
        starts = np.searchsorted(where, np.arange(len(self.shards) + 1))
        parts = []
        for first in range(0, len(shards), MIXED):
            group = shards[first : first + MIXED]
            index = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in group])
            mixed = torch.randperm(len(index), generator=generator)
            parts.append(torch.from_numpy(index)[mixed])
        return torch.cat(parts)


class Survey(NamedTuple):
    """What one pass over all shards finds."""

    hashes: np.ndarray  # uint64 [N], equal for equal examples
    limit: float  # the largest absolute value
    digest: bytes  # of all of them


def survey(data: Sharded, name: str) -> Survey:
    """Look at every example once, a piece at a time.

    Raises:
        ValueError: some example is not finite; the message names its file and row.
    """
    with ThreadPoolExecutor() as pool:  # reading and hashing leave Python's lock alone
        found = list(pool.map(lambda shard: look_at(shard, name), data.shards))
    hashes = np.concatenate([part.hashes for part in found])
    digest = hashlib.sha256(hashes.tobytes()).digest()
    return Survey(hashes, max(part.limit for part in found), digest)


def look_at(shard: Shard, name: str) -> Survey:
    """The survey of one shard."""
    array, hashes, limit = shard.open(), [], 0.0
    step = max(1, PIECE // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        piece = np.ascontiguousarray(array[start : start + step])
        if piece.dtype.kind == "f":
            bad = np.flatnonzero(~np.isfinite(as_float32(piece)).reshape(len(piece), -1).all(1))
            if len(bad):
                raise ValueError(
                    f"dataset {name}: {shard.path}: row {start + bad[0]} (counted from 0) has "
                    "NaN or infinity"
                )
            limit = max(limit, float(np.abs(piece).max()))
        rows = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in piece)
        hashes.append(np.frombuffer(b"".join(rows), np.uint64))
    return Survey(np.concatenate(hashes), limit if array.dtype.kind == "f" else 1.0, b"")


class Reader:
    """Batches of rows of a Sharded, the next one fetched while the present one is trained on."""

    def __init__(self, source: Sharded) -> None:
        self.source = source
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[bytes, Future[np.ndarray]] | None = None

    def read(self, index: Tensor, ahead: Tensor) -> Tensor:
        """The rows of `index`; those of `ahead` are asked for next."""
        import torch

        key, rows = index.numpy().tobytes(), None
        if self._next is not None and self._next[0] == key:
            rows = self._next[1].result()
        if rows is None:
            rows = self.source[index.numpy()]
        self._next = (
            ahead.numpy().tobytes(),
            self._pool.submit(self.source.__getitem__, ahead.numpy()),
        )
        return torch.from_numpy(rows)
