"""Storage in a folder on this machine, or in one that many share."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from trainable.base.durable import DRAFT, settle
from trainable.base.storage import Storage, StorageError


class FolderStorage(Storage):
    """A folder on this machine, or one that many share."""

    def __init__(self, uri: str) -> None:
        self.root = Path(uri).expanduser().absolute()
        self.uri = str(self.root)

    def sub(self, name: str) -> FolderStorage:
        return FolderStorage(str(self.root / name))

    def read(self, name: str) -> bytes:
        with _told(self.root / name):
            return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        with _told(self.root / name):
            self._draft(name, content).replace(self.root / name)
            settle((self.root / name).parent)

    def create(self, name: str, content: bytes) -> None:
        with _told(self.root / name):
            draft = self._draft(name, content)
            try:
                os.link(draft, self.root / name)  # fails where the name exists, on NFS too
            finally:
                draft.unlink()
            settle((self.root / name).parent)

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        return sorted(n for n in self._names(prefix) if n.startswith(prefix) and n > after)

    def sizes(self, prefix: str = "", after: str = "") -> dict[str, int]:
        found = {}
        for name in self.names(prefix, after):
            with suppress(FileNotFoundError), _told(self.root / name):  # deleted meanwhile
                found[name] = (self.root / name).stat().st_size
        return found

    def folders(self) -> list[str]:
        with _told(self.root):
            found = self.root.iterdir() if self.root.is_dir() else iter(())
            return sorted(path.name for path in found if path.is_dir())

    def delete(self, name: str) -> None:
        with _told(self.root / name):
            (self.root / name).unlink(missing_ok=True)

    def upload(self, path: Path, name: str) -> None:
        with _told(self.root / name):
            _copy(path, self.root / name)

    def download(self, name: str, path: Path) -> None:
        with _told(self.root / name):
            _copy(self.root / name, path)

    def age(self, name: str) -> float | None:
        with _told(self.root / name):
            probe = self._draft(f".clock-{secrets.token_hex(4)}", b"")  # the time of its server
            try:
                now = probe.stat().st_mtime
                return now - (self.root / name).stat().st_mtime
            except FileNotFoundError:
                return None
            finally:
                probe.unlink()

    def delete_all(self, prefix: str = "") -> None:
        super().delete_all(prefix)
        folder = self.root / prefix
        if (not prefix or prefix.endswith("/")) and folder.is_dir():
            shutil.rmtree(folder)

    def _names(self, prefix: str) -> Iterator[str]:
        start = self.root / PurePosixPath(prefix + "x").parent  # no deeper than is asked for
        with _told(start):
            for folder, _, files in os.walk(start):
                for file in files:
                    if DRAFT not in file:
                        yield (Path(folder) / file).relative_to(self.root).as_posix()

    def _draft(self, name: str, content: bytes) -> Path:
        target = self.root / name
        _make(target.parent)
        draft = target.with_name(f"{DRAFT}{secrets.token_hex(4)}")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return draft


class _told:
    """Turns what a file system says into a StorageError; that a name is there or not, stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        if isinstance(error, FileNotFoundError | FileExistsError | StorageError):
            return
        raise _in_words(self.path, error) from error


def _in_words(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: {error.strerror or error} (errno {error.errno}, uid {os.getuid()})"
    )


def _make(folder: Path) -> None:
    """Make a folder. That it can't be is no question of a name that is there or not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _in_words(folder, error) from error


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that a reader of the target never sees a part of it."""
    _make(target.parent)
    draft = target.with_name(f"{DRAFT}{secrets.token_hex(4)}")
    try:
        with source.open("rb") as file, draft.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        draft.replace(target)
        settle(target.parent)
    finally:
        draft.unlink(missing_ok=True)
