"""The one path to MLflow: a thread that follows the history and delivers it in batches.

Training never waits for it. What is delivered twice is stored once, since a run is looked up by
its tags before it is made, and a metric keeps the time of its event. While MLflow is away, the
history is the spool; `diffsweep resume` delivers what is left.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from search.errors import BadInput, Fenced
from search.history.book import Book, Event
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import Mirror, events, parsed
from search.spec.spec import SearchSpec
from search.tracking.batch import Batch, collect
from search.tracking.server import tracking_uri
from search.tracking.store import Store
from trainable.base.durable import replace

BATCH = 500  # events delivered in one go
PERIOD = 1.0  # seconds between deliveries
HEAD_START = 30.0  # seconds at most that the first trial may take to begin before MLflow is there
LONGEST_WAIT = 30.0  # seconds between attempts while MLflow is away
PATIENCE = 60.0  # seconds to deliver the rest when the search has ended, while people wait
UNWATCHED = 600.0  # seconds of a driver that nobody waits for
LAST_WAIT = 5.0  # seconds between attempts then
logger = logging.getLogger("diffsweep.record")


def deliver_rest(spec: SearchSpec, folder: Folder, home: Home) -> None:
    """Deliver what MLflow did not take while it was away, if there is something.

    Raises:
        BadInput: it does not take it now either.
    """
    recorder = Recorder(spec, folder, home)
    if not recorder.undelivered:
        return
    with recorder:
        pass
    if recorder.undelivered:
        raise BadInput(f"{folder.id}: MLflow does not take the rest: {recorder.error}")


class Recorder:
    """Delivers the history of one search to MLflow."""

    def __init__(
        self,
        spec: SearchSpec,
        folder: Folder,
        home: Home,
        mirror: Mirror | None = None,
        patience: float | None = None,
    ) -> None:
        self.patience = PATIENCE if patience is None else patience
        self.spec, self.folder, self.home, self.mirror = spec, folder, home, mirror
        self.uri = tracking_uri(spec, home)
        self.offset, _ = delivered(folder)
        self.error: str | None = None  # why the last delivery failed
        self._book = Book()  # the search as far as it was read
        self._noted: set[str] | None = None  # trials whose runs this recorder has noted
        self._batch: Batch | None = None  # what was read last, until all of it is there
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        """Deliver what is left, for as long as it is worth waiting; nothing if another driver
        has taken over, who delivers it too."""
        if isinstance(error, Fenced):
            self._given_up.set()
        self._closing.set()
        self._wake.set()
        self._thread.join(self.patience)
        self._given_up.set()  # what is left is for a resume

    @property
    def undelivered(self) -> int:
        """Bytes of history that MLflow does not have yet."""
        return self._end() - self.offset

    def _end(self) -> int:
        """Bytes of history that may be delivered: what another driver can't write otherwise."""
        written = self.folder.history.stat().st_size
        return written if self.mirror is None else min(written, self.mirror.size())

    def _await_trials(self) -> None:
        """Leave the processor to what leads to the first trial: MLflow takes seconds to import."""
        deadline = time.monotonic() + HEAD_START
        while time.monotonic() < deadline and not self._closing.is_set():
            if any(event["event"] == "begin" for event in events(self.folder.history)):
                return
            self._closing.wait(PERIOD)

    def _work(self) -> None:
        self._await_trials()
        wait, store = PERIOD, None
        deadline = float("inf")
        while not self._given_up.is_set():
            closing = self._closing.is_set()
            if closing:
                deadline = min(deadline, time.monotonic() + self.patience)
            try:
                store = store or Store(self.uri, self.spec, self.folder, self.home)
                while (batch := self._next_batch()) is not None:
                    self._deliver(store, batch)
                    self._batch = None
                wait, self.error = PERIOD, None
                if closing:
                    return
            except Exception as error:  # whatever it is, training goes on and we try again
                logger.warning("MLflow: %s", error)
                self.error = str(error).splitlines()[0]
                store = None  # a call may have worked though its answer was lost: look again
                wait = min(2 * wait, LAST_WAIT if closing else LONGEST_WAIT)
                if time.monotonic() > deadline:
                    return
            self._wake.wait(wait)
            if self._closing.is_set():
                self._wake.clear()
                time.sleep(0 if self.error is None else 1)

    def _next_batch(self) -> Batch | None:
        """The batch that was not delivered yet, or else the next one, if there is one."""
        if self._batch is None and (news := list(self._news())):
            self._batch = collect(self._book, news)
        return self._batch

    def _news(self) -> Iterator[tuple[Event, int]]:
        """Events after the offset, each with the offset behind it."""
        with self.folder.history.open("rb") as file:
            if not self._book.sessions and self.offset:  # catch up with what was delivered before
                while file.tell() < self.offset:
                    self._book.apply(parsed(file.readline()))
            file.seek(self.offset)
            end = self._end()
            for _ in range(BATCH):
                line = file.readline()
                if file.tell() > end or not line.endswith(b"\n"):
                    return
                yield parsed(line), file.tell()

    def _deliver(self, store: Store, batch: Batch) -> None:
        """Deliver a batch; the offset moves only when all of it is there."""
        store.deliver(self._book, batch)
        self.offset = batch.end
        runs = {str(trial): run for trial, run in store.runs.items() if trial is not None}
        content = {"offset": self.offset, "experiment": store.experiment}
        if self._noted is None:  # afresh: what lies there may be cut short
            replace(self.folder.delivered, line_of(content | {"runs": runs}))
            self._noted = set(runs)
            return
        new = {trial: runs[trial] for trial in map(str, batch.trials) if trial not in self._noted}
        with self.folder.delivered.open("ab") as file:
            file.write(line_of(content | {"runs": new}))
        self._noted |= set(new)


def delivered(folder: Folder) -> tuple[int, dict[int, str]]:
    """How many bytes of the history MLflow has, and the run of each trial."""
    content = _known(folder)
    runs = {int(trial): run for trial, run in content.get("runs", {}).items()}
    return content.get("offset", 0), runs


def experiment_of(folder: Folder) -> str | None:
    """The MLflow experiment that holds a search, once there is one."""
    experiment: str | None = _known(folder).get("experiment")
    return experiment


def line_of(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _known(folder: Folder) -> dict[str, Any]:
    """What is noted of the deliveries, a line for each; nothing of what can't be read, since a
    delivery can be repeated."""
    known: dict[str, Any] = {}
    try:
        for line in folder.delivered.read_text().splitlines():
            content = json.loads(line)
            known |= content | {"runs": known.get("runs", {}) | content.get("runs", {})}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        pass
    return known
