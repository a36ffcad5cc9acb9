"""The history of a search in storage: numbered segments, which nobody can write twice.

Put together they are the file history.jsonl, of which a home has a working copy. A segment is
created under a number that must not exist. So when two drivers write, because one was cut off and
thought to be dead, the second to write a number learns of the other and stops.
"""

from __future__ import annotations

import os
import threading
import time

from search.errors import Fenced, SearchFailed, StorageAway
from search.history.folder import Folder
from search.history.pieces import name_of
from search.history.pulling import Position, remember
from trainable.base.storage import Storage

PERIOD = 5.0  # seconds in which what is only seen gathers to one segment, if nothing is decided
ENOUGH = 1 << 16  # bytes of it that are not waited with: less than trials can tell again
LOOK = 0.3  # seconds between looks at how much it is
LONGEST_WAIT = 10.0  # seconds between attempts while the storage is away
PATIENCE = 600.0  # seconds without storage after which a search ends as interrupted


class Segments:
    """Writes the working copy's history to storage as it grows, in a thread of its own."""

    def __init__(self, folder: Folder, storage: Storage, position: Position) -> None:
        self.folder, self.storage, self.position = folder, storage, position
        self.patience = float(os.environ.get("DIFFSWEEP_STORAGE_PATIENCE", PATIENCE))
        self.failure: SearchFailed | None = None  # for good
        self.away_since: float | None = None
        self.why = ""
        self._changed = threading.Condition()
        self._wanted, self._ending, self._given_up = 0, False, False
        self.recent: dict[str, bytes] = {}  # segments that were not joined yet, see joining.py
        self._pushed = time.monotonic()  # when something was last brought there
        self._thread = threading.Thread(target=self._work, name="segments", daemon=True)

    def __enter__(self) -> Segments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        remember(self.folder, self.position)

    def flush(self) -> None:
        """Return when all that is written is in storage.

        Raises:
            StorageAway: it did not come back in time. From then on nothing is written there.
            Fenced: another driver writes the history.
        """
        with self._changed:
            if self._given_up:
                return  # it was said; the working copy has it, and a resume brings it there
            self._wanted = self.folder.history.stat().st_size
            self._changed.notify_all()
            while self.position.size < self._wanted and self.failure is None:
                self._changed.wait(1.0)
        self.check()

    def check(self) -> None:
        """Raise what has ended the writing, as `flush` does; StorageAway only once."""
        if self.failure is not None and not self._given_up:
            self._given_up = isinstance(self.failure, StorageAway)
            raise self.failure

    def size(self) -> int:
        """Bytes of the history that are in storage."""
        return self.position.size

    def number(self) -> int | None:
        """Of the last segment; None once no more can be written."""
        return None if self.failure is not None else self.position.segments

    def fence(self, why: str) -> None:
        """Write no more: another driver has taken over."""
        with self._changed:
            self.failure = self.failure or Fenced(f"{self.folder.id}: {why}; this driver stops")
            self._changed.notify_all()

    def waiting(self) -> str | None:
        """What people should know while the storage is away."""
        since = self.away_since
        if since is None or self.failure is not None:
            return None
        seconds = time.monotonic() - since
        return f"storage away for {seconds:.0f} s ({self.why})"

    def _work(self) -> None:
        wait = LOOK
        while self.failure is None:
            try:
                while self._is_due() and self._push():
                    pass
                wait, self.away_since = LOOK, None
                if self._ending:
                    return
            except FileExistsError:
                self.fence("another driver has written its history meanwhile")
            except OSError as error:
                now = time.monotonic()
                self.away_since, self.why = self.away_since or now, str(error)
                wait = min(max(1.0, 2 * wait), LONGEST_WAIT)
                if now - self.away_since > self.patience or self._ending:
                    self._give_up()
            except Exception as error:  # a fault of ours must not leave the driver waiting
                self.failure = SearchFailed(f"{self.folder.id}: {error}")
            with self._changed:
                nothing_wanted = self._wanted <= self.position.size
                if self.failure is None and (nothing_wanted or self.away_since is not None):
                    self._changed.wait_for(lambda: self._is_woken(), wait)

    def _is_woken(self) -> bool:
        """Whether there is something to do before the wait is over."""
        return self._ending or (self.away_since is None and self._wanted > self.position.size)

    def _is_due(self) -> bool:
        """Whether what is not in storage yet has to go there now."""
        size = self.folder.history.stat().st_size
        waited = time.monotonic() - self._pushed
        wanted = self._ending or self._wanted > self.position.size
        late = waited > PERIOD or self.away_since is not None
        return wanted or late or size - self.position.size > ENOUGH

    def _push(self) -> bool:
        """Write the next segment; whether there was something to write."""
        self._pushed = time.monotonic()
        with self.folder.history.open("rb") as file:
            file.seek(self.position.size)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        if not content:
            return False
        number = self.position.segments + 1
        try:
            self.storage.create(name_of(number), content)
        except FileExistsError:
            there = self.storage.read(name_of(number))
            if not there or not content.startswith(there):
                raise
            content = there  # ours: the answer to an earlier attempt was lost, and more came since
        self.recent[name_of(number)] = content
        with self._changed:
            self.position = Position(number, self.position.size + len(content))
            self._changed.notify_all()
        return True

    def _give_up(self) -> None:
        with self._changed:
            self.failure = StorageAway(
                f"infrastructure: the storage is away ({self.why}); all is in {self.folder.path}, "
                f"and `diffsweep resume {self.folder.id}` goes on from there"
            )
            self._changed.notify_all()
