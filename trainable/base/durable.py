"""Files that a power cut finds whole: as they were, or as they became."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# errors of a disk, not of whoever writes to it: no room, the quota is used up, it can't be read
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
DRAFT = ".draft-"  # in the names of files that are still being written


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside `path`, which it then replaces: a reader never sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}{DRAFT}{secrets.token_hex(4)}")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        settle(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Put this content in the place of what a file holds."""
    with replacing(path) as file:
        file.write(content)


def settle(folder: Path) -> None:
    """Return when the names in a folder outlive a power cut, as far as its file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def fault_of_the_disk(error: BaseException | None) -> str | None:
    """What a disk is at fault for in an error, or in what led to it; None where it is not."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            where = f" ({error.filename})" if error.filename else ""
            return f"{error.strerror}{where}"
        error = error.__cause__ or error.__context__
    return None
