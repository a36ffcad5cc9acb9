"""A shared place for what must outlive a machine: a folder that all hosts see, or a prefix on S3.

Names in it are relative, with slashes. What is written is there in full or not at all, and a name
that is created once can't be created again by anyone: that keeps two writers apart.
Credentials are those that the AWS tools find on each host; they are never carried along.
"""

from __future__ import annotations

import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

AT_ONCE = 16  # transfers of a folder that go on side by side
DRAFT = ".draft-"  # names of files that are still being written


class StorageError(OSError):
    """A storage can't be reached, or refuses: its message says which, where, and why."""


class Storage(ABC):
    """One root. It can be pickled, and sent to other hosts."""

    uri: str

    @abstractmethod
    def sub(self, name: str) -> Storage:
        """The same below `name`."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content. Raises FileNotFoundError where there is none, StorageError."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write, in place of what is there. Raises StorageError."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> None:
        """Write a name for the first time. Raises FileExistsError where it is taken, StorageError.

        When an answer was lost on the way, the name may be taken by this very call.
        """

    @abstractmethod
    def names(self, prefix: str = "", after: str = "") -> list[str]:
        """The names that begin with `prefix` and come after `after`, sorted."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The first parts of all names that have more than one, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a name, or see that it is gone. Raises StorageError."""

    @abstractmethod
    def upload(self, path: Path, name: str) -> None:
        """Write a file's content. Raises StorageError."""

    @abstractmethod
    def download(self, name: str, path: Path) -> None:
        """Write a content to a file. Raises FileNotFoundError, StorageError."""

    @abstractmethod
    def age(self, name: str) -> float | None:
        """Seconds since a name was written, by the storage's own clock; None where it is not."""

    def put_folder(self, path: Path, name: str = "") -> None:
        """Upload the files of a folder and of those in it."""
        start = f"{name}/" if name else ""
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            targets = (start + file.relative_to(path).as_posix() for file in files)
            list(pool.map(self.upload, files, targets))

    def get_folder(self, name: str, path: Path) -> None:
        """Download all names below `name` into a folder."""
        names = self.names(f"{name}/")
        inner = [PurePosixPath(found).relative_to(name) for found in names]
        if any(".." in part.parts or part.is_absolute() for part in inner):
            raise StorageError(f"{self.uri}/{name}: holds a name that leads out of it")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.download, names, [path / part for part in inner]))

    def delete_all(self, prefix: str = "") -> None:
        """Delete all names that begin with `prefix`."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.delete, self.names(prefix)))


def open_storage(uri: str, attempts: int = 3) -> Storage:
    """The storage at s3://bucket/prefix, or in a folder. Each call is tried `attempts` times."""
    if uri.startswith("s3://"):
        from trainable.s3 import S3Storage

        return S3Storage(uri.rstrip("/"), attempts)
    return FolderStorage(uri.removeprefix("file://"))


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

    def create(self, name: str, content: bytes) -> None:
        with _told(self.root / name):
            draft = self._draft(name, content)
            try:
                os.link(draft, self.root / name)  # fails where the name exists, on NFS too
            finally:
                draft.unlink()

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        return sorted(n for n in self._names(prefix) if n.startswith(prefix) and n > after)

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
    finally:
        draft.unlink(missing_ok=True)
