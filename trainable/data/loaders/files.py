"""The files of a folder: those that are wanted by their names, and what was left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

MOST = 5  # kinds of files that a note names

Wanted = Callable[[str], bool]  # whether a file is one, by its name


class LeftOut:
    """Files that are not used, counted by how their names end."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.first = ""

    def add(self, name: str, kind: str = "") -> None:
        self.first = self.first or name
        self.kinds[kind or Path(name).suffix.lower() or "without a suffix"] += 1

    def note(self) -> str:
        """What was left out in a line; nothing if nothing was."""
        if not self.kinds:
            return ""
        count = self.kinds.total()
        most = ", ".join(f"{n} {kind}" for kind, n in self.kinds.most_common(MOST))
        more = ", ..." if len(self.kinds) > MOST else ""
        were = "file was" if count == 1 else "files were"
        return f"{count} {were} left out: {most}{more}; the first is {self.first}"


def walk(root: Path, wanted: Wanted, left_out: LeftOut, what: str) -> Iterator[Path]:
    """The wanted files below a folder, in the order of their paths.

    Hidden folders are passed over. Links are followed while they stay inside.

    Raises:
        ValueError: a folder or file can't be read, is no file, or a link leads outside; named.
    """
    if not root.is_dir():
        raise ValueError(f"{what}: {root} is no folder")
    inside, seen = root.resolve(), set()
    found = []
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        real = Path(folder).resolve()
        _check_inside(Path(folder), real, inside, what)
        if real in seen:  # a link to a folder that is read anyway
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(files):
            path = Path(folder, name)
            if wanted(name) and not name.startswith("."):
                found.append(path)
            elif wanted(name) or not name.startswith("."):
                left_out.add(str(path.relative_to(root)), "hidden" if wanted(name) else "")
    for path in sorted(found, key=str):
        _check_file(path, inside, what)
        yield path


def _raise(error: OSError) -> None:
    raise ValueError(f"{error.filename}: {error.strerror}") from error


def _check_file(path: Path, inside: Path, what: str) -> None:
    try:
        _check_inside(path, path.resolve(), inside, what)
        mode = os.stat(path).st_mode
    except (OSError, RuntimeError) as error:  # a link to itself is the latter
        if path.is_symlink():
            raise ValueError(f"{what}: {path} is a link to nothing") from error
        raise ValueError(f"{what}: {path}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
        raise ValueError(f"{what}: {path} is no regular file")


def _check_inside(path: Path, real: Path, root: Path, what: str) -> None:
    """Raises ValueError for a link that leads out of the folder."""
    if not real.is_relative_to(root):
        raise ValueError(f"{what}: {path} is a link that leads outside, to {real}")
