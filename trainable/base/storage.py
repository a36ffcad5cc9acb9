"""A shared place for what must outlive a machine: a folder that all hosts see, or a prefix on S3.

Names in it are relative, with slashes. What is written is there in full or not at all, and a name
that is created once can't be created again by anyone: that keeps two writers apart.
Credentials are those that the AWS tools find on each host; they are never carried along.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath

AT_ONCE = 16  # transfers of a folder that go on side by side


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
    def sizes(self, prefix: str = "", after: str = "") -> dict[str, int]:
        """Bytes of each name that begins with `prefix` and comes after `after`, sorted."""

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        """The names that begin with `prefix` and come after `after`, sorted."""
        return list(self.sizes(prefix, after))

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

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        """The contents of names, in their order; some are read ahead. Raises as `read`."""
        ahead: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for name in names:
                ahead.append(pool.submit(self.read, name))
                if len(ahead) > 2 * AT_ONCE:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def delete_each(self, names: Sequence[str]) -> None:
        """Delete names, or see that they are gone. Raises StorageError."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.delete, names))

    def delete_all(self, prefix: str = "") -> None:
        """Delete all names that begin with `prefix`."""
        self.delete_each(self.names(prefix))
