"""A storage in memory, and functions that go on by one operation on it at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from trainable.base.storage import Storage


class Killed(BaseException):
    """What a process that is killed does not live to see."""


class Memory(Storage):
    """Names and contents. `pause` is called before each operation."""

    uri = "memory"

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.pause: Callable[[], None] = lambda: None

    def read(self, name: str) -> bytes:
        self.pause()
        try:
            return self.content[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def create(self, name: str, content: bytes) -> None:
        self.pause()
        if self.content.setdefault(name, content) is not content:
            raise FileExistsError(name)

    def sizes(self, prefix: str = "", after: str = "") -> dict[str, int]:
        self.pause()
        found = sorted(n for n in self.content if n.startswith(prefix) and n > after)
        return {name: len(self.content[name]) for name in found}

    def delete(self, name: str) -> None:
        self.pause()
        self.content.pop(name, None)

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        return map(self.read, names)

    def delete_each(self, names: Sequence[str]) -> None:
        for name in names:
            self.delete(name)

    def sub(self, name: str) -> Storage:
        raise NotImplementedError

    def write(self, name: str, content: bytes) -> None:
        raise NotImplementedError

    def folders(self) -> list[str]:
        raise NotImplementedError

    def upload(self, path: Path, name: str) -> None:
        raise NotImplementedError

    def download(self, name: str, path: Path) -> None:
        raise NotImplementedError

    def age(self, name: str) -> float | None:
        raise NotImplementedError


class Stepped:
    """A function in a thread that waits before each operation until it is told to go on."""

    current: Stepped | None = None

    def __init__(
        self, name: str, work: Callable[[], object], passing: tuple[type[Exception], ...]
    ) -> None:
        """`passing` are errors that may end it."""
        self.name, self.work, self.passing = name, work, passing
        self.error: BaseException | None = None
        self.done = self.killed = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def step(self, times: int) -> None:
        """Let it do so many operations, or all that are left, and come to the next."""
        while times and not self.done:
            Stepped.current = self
            self._go.release()
            self._stopped.acquire()
            Stepped.current, times = None, times - 1

    def kill(self) -> None:
        self.killed = True
        self.step(1)

    @staticmethod
    def pause() -> None:
        """To be called before each operation."""
        if (mine := Stepped.current) is not None:
            mine._stopped.release()
            mine._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self.killed:
            raise Killed

    def _run(self) -> None:
        try:
            self._wait()
            self.work()
        except Killed:
            pass
        except BaseException as error:
            if not isinstance(error, self.passing):
                self.error = error
        self.done = True
        self._stopped.release()
