"""A trial's checkpoints in storage, where the next process that works on it finds them.

A process first claims an attempt, which nobody else can then have. It goes on from the newest
checkpoint that is whole, and writes its own under its attempt's name. So a host that was cut off
and comes back can't overwrite what its replacement wrote, and what it adds counts for nothing:
a replacement's name says how far it had come when it took over.

Names: `<session>.<attempt>.begun-<samples>`, and `<session>.<attempt>.<samples>.<sha256>.pt`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from trainable.actor.output import NAME as OUTPUT
from trainable.base.storage import Storage

CHECKPOINT, GRID = "checkpoint.pt", "samples.png"  # what a trial leaves in its folder
KEPT = 2  # whole checkpoints: the newest, and one to fall back on
Attempt = tuple[int, int]  # of which session of the search, and the how manieth in it


class Superseded(Exception):
    """Another process has taken over this trial; what this one does counts for nothing."""


class Saved(NamedTuple):
    """A checkpoint in storage."""

    attempt: Attempt
    samples: int
    sha256: str
    name: str


def saved(names: list[str]) -> list[Saved]:
    """The checkpoints that count, the best to go on from first.

    Those of the last attempt, then those of the one before up to where the last began, ...
    """
    checkpoints, begun = [], {}
    for name in names:
        parts = name.split(".")
        if len(parts) == 5 and parts[-1] == "pt":
            attempt, samples = (int(parts[0]), int(parts[1])), int(parts[2])
            checkpoints.append(Saved(attempt, samples, parts[3], name))
        elif len(parts) == 3 and parts[2].startswith("begun-"):
            begun[int(parts[0]), int(parts[1])] = int(parts[2].removeprefix("begun-"))
    counted: list[Saved] = []
    limit: float = float("inf")
    for attempt in sorted({*begun, *(c.attempt for c in checkpoints)}, reverse=True):
        own = [c for c in checkpoints if c.attempt == attempt and c.samples <= limit]
        counted += sorted(own, key=lambda c: c.samples, reverse=True)
        limit = min(limit, begun.get(attempt, 0))
    return counted


def attempts(names: list[str]) -> list[Attempt]:
    """All attempts that were claimed, in order."""
    begun = [name.split(".") for name in names if ".begun-" in name]
    return sorted((int(session), int(attempt)) for session, attempt, _ in begun)


def whole(storage: Storage, path: Path) -> Iterator[Path]:
    """Download the whole checkpoints of a trial one by one to `path`, the best first."""
    for checkpoint in saved(storage.names()):
        try:
            storage.download(checkpoint.name, path)
        except FileNotFoundError:  # its successor is there by now
            continue
        if sha256(path) == checkpoint.sha256:
            yield path
        path.unlink(missing_ok=True)


class Kept:
    """The checkpoints of one trial, for the process that works on it now."""

    def __init__(self, storage: Storage, session: int, local: Path) -> None:
        self.storage, self.session, self.local = storage, session, local
        self.attempt: Attempt | None = None
        self._pool = ThreadPoolExecutor(1, "upload")
        self._upload: Future[None] | None = None

    def restore(self) -> Path | None:
        """The newest checkpoint that is whole, downloaded; to be deleted by the caller."""
        return next(whole(self.storage, self.local / "restored.pt"), None)

    def claim(self, samples: int) -> None:
        """Begin an attempt at `samples`. Raises Superseded, StorageError."""
        while True:
            known = attempts(self.storage.names())
            last = known[-1] if known else (0, 0)
            if last[0] > self.session:
                raise Superseded(f"a later session of the search works on this trial: {last}")
            attempt = (self.session, last[1] + 1 if last[0] == self.session else 1)
            try:
                self.storage.create(f"{stem(attempt)}.begun-{samples:012d}", b"")
            except FileExistsError:
                continue  # someone else's, or our own call whose answer was lost: take the next
            self.attempt = attempt
            return

    def put(self, path: Path, samples: int) -> None:
        """Begin to upload a checkpoint, once the one before is there; `path` is gone after it.

        Raises what became of the one before.
        """
        self.wait()
        self._upload = self._pool.submit(self._put, path, samples)

    @property
    def busy(self) -> bool:
        """Whether an upload is going on."""
        return self._upload is not None and not self._upload.done()

    def wait(self) -> None:
        """Wait until what was put is in storage. Raises Superseded, StorageError."""
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.result()

    def put_output(self) -> None:
        """Put what the process printed so far, under the attempt's name. Raises StorageError."""
        if self.attempt is not None and (path := self.local / OUTPUT).exists():
            self.storage.upload(path, f"{stem(self.attempt)}.{OUTPUT}")

    def close(self) -> None:
        """Forget what is still on its way: nobody waits for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _put(self, path: Path, samples: int) -> None:
        assert self.attempt is not None
        names = self.storage.names()
        if attempts(names)[-1] > self.attempt:
            path.unlink()
            raise Superseded("another process has taken over this trial")
        name = f"{stem(self.attempt)}.{samples:012d}.{sha256(path)}.pt"
        self.storage.upload(path, name)
        path.unlink()
        self.put_output()
        wanted = {checkpoint.name for checkpoint in saved([*names, name])[:KEPT]}
        self.storage.delete_each([n for n in names if n.endswith(".pt") and n not in wanted])


def stem(attempt: Attempt) -> str:
    return f"{attempt[0]:04d}.{attempt[1]:04d}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
