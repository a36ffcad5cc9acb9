"""The lock of a driver: one on each search, which the system lets go of when it dies."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from search.errors import BadInput

TRIES = 10  # of a driver to take its lock, a moment apart


class DriverLock:
    """Held by the driver of a search. The system lets go of it when the driver dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> DriverLock:
        file = self.path.open("a")
        for _ in range(TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # perhaps by someone who only looks, see `held`
                time.sleep(0.02)
            else:
                self._file = file
                return self
        file.close()
        raise BadInput(f"{self.path.parent.name}: its driver is still running")

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    @staticmethod
    def held(path: Path) -> bool:
        """Whether a driver is alive."""
        if not path.exists():
            return False
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
