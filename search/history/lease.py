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
            impatient = open_storage(folder.storage.uri, ATTEMPTS)
            segments = Segments(folder, impatient, pull(folder))
            stack.enter_context(lease.kept(segments))
        history = History(folder.history, mirror=segments)
        stack.callback(history.close)
        if segments is not None:
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
    return folder.storage.age(LEASE)


class Lease:
    """The lease of one search in storage."""

    def __init__(self, folder: Folder) -> None:
        assert folder.storage is not None
        self.folder, self.storage = folder, folder.storage
        self.token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._brought: set[str] = set()  # requests

    def holder(self) -> str | None:
        """The host of another driver that is alive; None without one."""
        try:
            found: dict[str, Any] = json.loads(self.storage.read(LEASE))
        except FileNotFoundError:
            return None
        if found["token"] == self.token or found["lock"] == lock_identity(self.folder.lock):
            return None  # ours, or of this very folder, where the lock tells better
        age = self.storage.age(LEASE)
        return str(found["host"]) if age is not None and age < STALE else None

    def take(self) -> None:
        """Take the lease. Raises BadInput: another driver is alive."""
        if (host := self.holder()) is not None:
            raise BadInput(f"{self.folder.id}: its driver is still running, on {host}")
        self.storage.delete(LEASE)
        try:
            self.storage.create(LEASE, self._content())
        except FileExistsError as error:
            if self._found() != self.token:  # else the answer to our own call was lost
                raise BadInput(f"{self.folder.id}: another driver has just begun") from error

    @contextmanager
    def kept(self, segments: Segments) -> Iterator[None]:
        """Renew the lease until the end; learn of requests, and of a driver that took over."""
        bring_requests(self.folder, self._brought)
        thread = threading.Thread(target=self._beat, args=[segments], name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            try:
                if self._found() == self.token:
                    self.storage.delete(LEASE)
                bring_requests(self.folder, self._brought)  # deletes those that were taken up
            except OSError as error:  # it will be stale soon
                logger.warning("%s", error)

    def _beat(self, segments: Segments) -> None:
        while not self._ended.wait(BEAT):
            try:
                if self._found() not in (None, self.token):
                    segments.fence("another driver has taken it over")
                    return
                self.storage.write(LEASE, self._content())
                bring_requests(self.folder, self._brought)
            except OSError as error:  # away; the history says so where people see it
                logger.info("%s", error)

    def _found(self) -> str | None:
        """The token of whoever has the lease."""
        try:
            return str(json.loads(self.storage.read(LEASE))["token"])
        except FileNotFoundError:
            return None

    def _content(self) -> bytes:
        content = {
            "token": self.token,
            "host": platform.node(),
            "pid": os.getpid(),
            "lock": lock_identity(self.folder.lock),
        }
        return json.dumps(content).encode()


def lock_identity(path: Path) -> str:
    """The same for all processes that see one lock, whose holder the system knows."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    where = boot.read_text().strip() if boot.exists() else platform.node()
    status = path.stat() if path.exists() else None
    return f"{where}:{status.st_dev}:{status.st_ino}" if status else f"{where}:none"
