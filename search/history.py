"""The history of a search: events appended to one file, of which everything else is a view.

An event is a line of JSON with its time. A decision is written here before it is acted on, so
whatever process dies, the study, the rungs and the MLflow runs can be made again from the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from search.errors import BadInput

FORMAT = 1
ENDED = ("complete", "pruned", "diverged", "failed", "cancelled")  # a trial does not go on
STATES = ("pending", "running", "paused", *ENDED)
TRIES = 10  # of a driver to take its lock, a moment apart
Event = dict[str, Any]


@dataclass
class Trial:
    """One trial as the history tells it."""

    number: int
    stage: str  # search or confirm
    chosen: dict[str, Any]  # what the sampler chose, by dimension
    config: dict[str, Any]  # the whole TrialConfig
    baseline: bool = False
    state: str = "pending"
    reports: list[dict[str, Any]] = field(default_factory=list)
    why: str | None = None  # it ended as it did
    began: int | None = None  # ms since the epoch; None while no process is at it
    reported: int | None = None
    ended: int | None = None
    promoted: int | None = None  # samples at which it was allowed to go on
    added: bool = False  # by the user, outside the budget of trials
    full: bool = False  # nothing stops it before the end of the budget
    again: bool = False  # it was cut off, and goes on when the search does
    seconds: float = 0.0  # that its process ran
    source: int | None = None  # of a confirm trial: the trial of the search that it repeats
    turn: int = 0  # how many trials of its optimizer came before it

    @property
    def optimizer(self) -> str:
        name: str = self.config["optimizer"]["type"]
        return name

    @property
    def samples(self) -> int:
        """The clock of the last report that counts."""
        return self.reports[-1]["samples"] if self.reports else 0

    @property
    def full_samples(self) -> int:
        """The clock at the end of its budget."""
        samples: int = self.config["steps"] * self.config["batch_size"]
        return samples

    def last(self, metric: str) -> float | None:
        """The last reported value of a metric."""
        return self.reports[-1].get(metric) if self.reports else None

    def rest(self, time: int | None) -> None:
        """No process works on it from `time` on (ms since the epoch)."""
        if self.began is not None and time is not None:
            self.seconds += max(0, time - self.began) / 1000
        self.began = None


@dataclass
class Book:
    """The state of a search: what the events add up to."""

    id: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)  # versions, and the data's fingerprint
    job: str | None = None  # the Ray job that drives it, or did last; None where it ran attached
    ending: bool = False  # the driver has written its last word
    imported: list[Trial] = field(default_factory=list)  # of earlier searches, for the sampler
    state: str = "pending"
    why: str | None = None
    started: int | None = None
    last_event: int | None = None
    sessions: int = 0
    seconds: float = 0.0  # that drivers ran, over all sessions
    session_began: int | None = None

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event["event"]:
            case "start":
                self.id, self.spec, self.state = event["search"], event["spec"], "running"
                self.origin = self.origin or event.get("origin", {})
                self.why, self.ending, self.job = None, False, event.get("job")
                self.started = self.started or event["time"]
                self.sessions += 1
                self.session_began = event["time"]
                for trial in self.trials.values():  # of a driver that died without a word
                    trial.rest(self.last_event)
            case "ask":
                number, name = event["trial"], event["config"]["optimizer"]["type"]
                self.trials[number] = Trial(
                    number,
                    event["stage"],
                    event["chosen"],
                    event["config"],
                    event["baseline"],
                    full=event.get("full", False),
                    added=event.get("added", False),
                    source=event.get("source"),
                    turn=sum(trial.optimizer == name for trial in self.trials.values()),
                )
            case "promote":
                trial = self.trials[event["trial"]]
                trial.state = "pending" if trial.state == "paused" else trial.state
                trial.promoted, trial.full = trial.samples, trial.full or event["full"]
            case "begin":
                trial = self.trials[event["trial"]]
                trial.rest(event["time"])  # its process was lost, and this is another
                trial.state, trial.began = "running", event["time"]
                trial.again = False
            case "report":
                trial = self.trials[event["trial"]]
                trial.reports.append(event["metrics"])
                trial.reported = event["time"]
            case "end":
                trial = self.trials[event["trial"]]
                trial.state, trial.why, trial.ended = event["state"], event["why"], event["time"]
                trial.again = event["again"]
                trial.rest(event["time"])
            case "retry":
                self.trials[event["trial"]].again = True
            case "import":
                self.imported += [Trial(**content) for content in event["trials"]]
            case "finish":
                self.state, self.why, self.ending = event["state"], event["why"], True
        if self.session_began is not None and self.last_event is not None:
            self.seconds += max(0, event["time"] - max(self.last_event, self.session_began)) / 1000
        self.last_event = event["time"]

    def counts(self) -> dict[str, int]:
        """How many trials are in each state, states without a trial left out."""
        states = [trial.state for trial in self.trials.values()]
        return {state: states.count(state) for state in STATES if state in states}

    def stage(self, stage: str) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.stage == stage]


class Mirror(Protocol):
    """Copies what is appended to where it survives this machine."""

    def flush(self) -> None:
        """Return when all of it is there."""

    def check(self) -> None:
        """Raise what has ended it, if something has."""

    def waiting(self) -> str | None:
        """Why not all of it is there yet, if there is more to it than a moment."""

    def size(self) -> int:
        """Bytes of the history that are there."""


class History:
    """The file, open for appending by the one driver that holds its lock.

    Without a path it is kept in memory alone, for a replay; `clock` gives seconds. With a mirror,
    a decision is in storage too before it can be acted on.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], float] = time.time,
        mirror: Mirror | None = None,
    ) -> None:
        self.clock, self.book, self.mirror = clock, Book(), mirror
        self.tell: Callable[[Event], object] = lambda event: None  # called when it is applied
        self._file: IO[bytes] | None = None
        if path is None:
            return
        repair(path)
        for event in events(path):
            self.book.apply(event)
        self._file = path.open("ab")

    def write(self, event: str, **content: Any) -> Event:
        """Append an event, then apply it. When this returns, a kill can't undo it.

        Raises:
            SearchFailed: the storage is gone for good, or another driver writes there.
        """
        line: Event = {"event": event, "time": int(self.clock() * 1000), **content}
        if self._file is not None:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            if event != "report":  # a lost report is made again from the checkpoint before it
                os.fsync(self._file.fileno())
        self.book.apply(line)
        if self.mirror is not None and event != "report":  # reports follow in a moment
            self.mirror.flush()
        self.tell(line)
        return line

    def waiting(self) -> str | None:
        """What keeps the history from being written down, if something does."""
        return None if self.mirror is None else self.mirror.waiting()

    def check(self) -> None:
        """Raise what keeps decisions from being written down for good, even if none is made."""
        if self.mirror is not None:
            self.mirror.check()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def events(path: Path) -> Iterator[Event]:
    """The events of a history; a last line that is still being written is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def repair(path: Path) -> None:
    """Cut off a last line that a dying driver or a full disk left unfinished.

    Raises:
        BadInput: the history is of a format that this version can't read.
    """
    path.touch()
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    if whole and (found := json.loads(content[: content.find(b"\n")]).get("format")) != FORMAT:
        raise BadInput(f"{path}: history of format {found}, this version reads {FORMAT}")


def read_book(path: Path) -> Book:
    """The state of a search, from its history."""
    book = Book()
    for event in events(path):
        book.apply(event)
    return book


class DriverLock:
    """Held by the driver of a search. The system lets go of it when the driver dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> DriverLock:
        file = self.path.open("a")
        for _ in range(TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # perhaps by someone who only looks, see `held`
                time.sleep(0.02)
            else:
                self._file = file
                return self
        file.close()
        raise BadInput(f"{self.path.parent.name}: its driver is still running")

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    @staticmethod
    def held(path: Path) -> bool:
        """Whether a driver is alive."""
        if not path.exists():
            return False
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
