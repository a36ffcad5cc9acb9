"""The folder of one search: the one place that knows its file names."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from search.errors import BadInput
from trainable.actor.kept import CHECKPOINT, GRID, whole
from trainable.base.opening import open_storage
from trainable.base.storage import Storage

ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}-[0-9a-f]{6}$")


def new_id(name: str) -> str:
    """An id for a search of this name."""
    return f"{name}-{secrets.token_hex(3)}"


class Folder:
    """The folder of one search, `<home>/<search id>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.history = path / "history.jsonl"  # the durable record; the rest can be made again
        self.lock = path / "driver.lock"  # held while a driver runs
        self.study = path / "study.journal"  # the Optuna study, for Optuna's own tools
        self.delivered = path / "mlflow.json"  # how much of the history MLflow has, and its runs
        self.log = path / "driver.log"
        self.tune = path / "tune"  # Ray Tune's own files, which nothing here reads
        self.requests = path / "requests"
        self.best = path / "best"
        self.own = path / "own"  # of a submitted search: the user's code, as code/0, code/1, ...
        self.report = path / "report"  # report.html, report.json and the plots
        self.answered = path / "answered"  # once MLflow and storage have the answer, too
        self.graphs = path / "graphs"  # traced networks, until MLflow has them
        self.storage_uri = path / "storage"  # where the durable truth is, if not here
        self.pulled = path / "pulled.json"  # how much of the history is known to be there
        self.code = path / "code"  # the user's own, brought from storage

    @cached_property
    def storage(self) -> Storage | None:
        """This search's part of the storage, if it has one; the folder is a working copy then."""
        if not self.storage_uri.exists():
            return None
        return open_storage(self.storage_uri.read_text()).sub(self.id)

    def checkpoint(self, number: int) -> Path:
        """The newest whole checkpoint of a trial, brought here if it is only in storage.

        Raises:
            BadInput: there is none.
        """
        path = self.trial(number) / CHECKPOINT
        if path.exists():
            return path
        if self.storage is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = next(whole(self.storage.sub(f"trials/{number}"), path), None)
            if found is not None:
                return found
        raise BadInput(f"{self.id}: trial {number} has no whole checkpoint")

    def grid(self, number: int) -> Path:
        """The sample grid of a trial, brought here if it is only in storage; it may not exist."""
        path = self.trial(number) / GRID
        if self.storage is not None and not path.exists():
            with suppress(FileNotFoundError):
                self.storage.download(f"trials/{number}/{GRID}", path)
        return path

    def graph(self, number: int) -> Path:
        """Where the traced network of a trial may lie, until MLflow has it."""
        return self.graphs / str(number)

    def trial(self, number: int) -> Path:
        """Where a trial writes: its checkpoint, its sample grid."""
        return self.path / "trials" / str(number)


def has_begun(folder: Folder) -> bool:
    """Whether a driver ever wrote to this search's history."""
    return folder.history.exists() and folder.history.stat().st_size > 0
