"""Who drives a search: a lock on this machine, and in storage a lease that all machines see.

A driver renews its lease every few seconds. How old it is, the storage's own clock says, so clocks
of machines may differ. Should two drivers ever believe that a search is theirs, the history keeps
them apart (segments.py).
"""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from search.errors import BadInput
from search.history.control import bring_requests
from search.history.folder import Folder
from search.history.joining import joining
from search.history.lock import DriverLock
from search.history.log import History
from search.history.pulling import pull
from search.history.segments import Segments
from trainable.base.opening import open_storage
from trainable.base.storage import StorageError

LEASE = "driver.json"
BEAT = 4.0  # seconds between renewals, and between looks for requests
STALE = 30.0  # seconds without renewal after which a driver counts as dead
ATTEMPTS = 1  # of the history's calls, which are repeated where people see it
logger = logging.getLogger("diffsweep.lease")


@contextmanager
def driving(folder: Folder) -> Iterator[History]:
    """Be the only driver of a search, with its history open and up to date.

    Raises:
        BadInput: another driver is alive.
        Fenced: another driver was quicker.
    """
    with ExitStack() as stack:
        stack.enter_context(DriverLock(folder.lock))
        segments = None
        if folder.storage is not None:
            lease = Lease(folder)
            lease.take()
            stack.enter_context(lease.kept())  # from here on, since a long history takes minutes
            impatient = open_storage(folder.storage.uri, ATTEMPTS)
            segments = Segments(folder, impatient, pull(folder))
            lease.guard(segments)
        history = History(folder.history, mirror=segments)
        stack.callback(history.close)
        if segments is not None:
            stack.enter_context(joining(segments.storage, segments))
            stack.enter_context(segments)
        yield history


def is_driven(folder: Folder) -> bool:
    """Whether a driver is alive, here or elsewhere."""
    if DriverLock.held(folder.lock):
        return True
    try:
        return folder.storage is not None and Lease(folder).holder() is not None
    except StorageError as error:
        logger.warning("%s: nobody knows whether its driver is alive: %s", folder.id, error)
        return False


def lease_age(folder: Folder) -> float | None:
    """Seconds since the lease was renewed; None without one, or where the lock tells better."""
    if folder.storage is None or DriverLock.held(folder.lock):
        return None
    lease = Lease(folder)
    found = lease.found()
    return None if found is None else lease.age(found)


class Lease:
    """The lease of one search in storage.

    It is created under a name that must not exist, and says whose it is. Its holder renews a sign
    of life under a name of its own, so one that stood still for long and goes on overwrites
    nothing of its successor.
    """

    def __init__(self, folder: Folder) -> None:
        assert folder.storage is not None
        self.folder, self.storage = folder, folder.storage
        self.token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._segments: Segments | None = None
        self._lost = False  # to another driver
        self._brought: set[str] = set()  # requests

    def found(self) -> dict[str, Any] | None:
        """What the lease says: whose it is. None without one."""
        try:
            content: dict[str, Any] = json.loads(self.storage.read(LEASE))
        except FileNotFoundError:
            return None
        return content

    def age(self, found: dict[str, Any]) -> float | None:
        """Seconds since its holder was last heard of, by the storage's clock."""
        age = self.storage.age(sign_of(found["token"]))
        return self.storage.age(LEASE) if age is None else age  # it has just begun

    def holder(self) -> str | None:
        """The host of another driver that is alive; None without one."""
        found = self.found()
        if found is None or found["token"] == self.token:
            return None
        if found["lock"] == lock_identity(self.folder.lock):
            return None  # of this very folder, where the lock tells better
        age = self.age(found)
        return str(found["host"]) if age is not None and age < STALE else None

    def take(self) -> None:
        """Take the lease. Raises BadInput: another driver is alive."""
        if (host := self.holder()) is not None:
            raise BadInput(f"{self.folder.id}: its driver is still running, on {host}")
        if (before := self.found()) is not None:
            self.storage.delete(sign_of(before["token"]))
        self.storage.delete(LEASE)
        try:
            self.storage.create(LEASE, self._content())
        except FileExistsError as error:
            if not self._is_ours():  # else the answer to our own call was lost
                raise BadInput(f"{self.folder.id}: another driver has just begun") from error

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Give signs of life until the end; learn of requests, and of a driver that took over."""
        bring_requests(self.folder, self._brought)
        thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            try:
                self.storage.delete(sign_of(self.token))
                if self._is_ours():
                    self.storage.delete(LEASE)
                bring_requests(self.folder, self._brought)  # deletes those that were taken up
            except OSError as error:  # it will be stale soon
                logger.warning("%s", error)

    def guard(self, segments: Segments) -> None:
        """Have these written no more once another driver has taken over."""
        self._segments = segments
        if self._lost:
            self._fence()

    def _fence(self) -> None:
        self._lost = True
        if self._segments is not None:
            self._segments.fence("another driver has taken it over")

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                if self._is_taken():
                    self._fence()
                    return
                self.storage.write(sign_of(self.token), b"")
                bring_requests(self.folder, self._brought)
            except OSError as error:  # away; the history says so where people see it
                logger.info("%s", error)

    def _is_ours(self) -> bool:
        found = self.found()
        return found is not None and found["token"] == self.token

    def _is_taken(self) -> bool:
        """Whether another driver has the lease."""
        found = self.found()
        return found is not None and found["token"] != self.token

    def _content(self) -> bytes:
        content = {
            "token": self.token,
            "host": platform.node(),
            "pid": os.getpid(),
            "lock": lock_identity(self.folder.lock),
        }
        return json.dumps(content).encode()


def sign_of(token: str) -> str:
    """The name under which the holder of a lease gives signs of life."""
    return f"driver.{token}.alive"


def lock_identity(path: Path) -> str:
    """The same for all processes that see one lock, whose holder the system knows."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    where = boot.read_text().strip() if boot.exists() else platform.node()
    status = path.stat() if path.exists() else None
    return f"{where}:{status.st_dev}:{status.st_ino}" if status else f"{where}:none"
