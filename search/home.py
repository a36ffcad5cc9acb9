"""Where everything of a search lies: the one place that knows file names."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from search.errors import BadInput, NoSearch
from search.reading import nearest

ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}-[0-9a-f]{6}$")


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
        self.report = path / "report"  # report.html, report.json and the plots

    def trial(self, number: int) -> Path:
        """Where a trial writes: its checkpoint, its sample grid."""
        return self.path / "trials" / str(number)


def has_begun(folder: Folder) -> bool:
    """Whether a driver ever wrote to this search's history."""
    return folder.history.exists() and folder.history.stat().st_size > 0


class Home:
    """The folder that holds all searches and the embedded MLflow store."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or Path(os.environ.get("DIFFSWEEP_HOME", "runs"))).absolute()
        self.store = self.path / "mlflow.db"
        self.artifacts = self.path / "artifacts"

    def prepare(self) -> None:
        """Make sure that the home exists and can be written.

        Raises:
            BadInput: it can't.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{secrets.token_hex(4)}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise BadInput(
                f"DIFFSWEEP_HOME: can't write to {self.path}: {error.strerror}"
            ) from error

    def new(self, name: str) -> Folder:
        """A folder for a new search of this name, under an id of its own."""
        while True:
            folder = Folder(self.path / f"{name}-{secrets.token_hex(3)}")
            if not folder.path.exists():
                folder.path.mkdir(parents=True)
                return folder

    def searches(self) -> Iterator[Folder]:
        """All searches here, the newest last."""
        if self.path.is_dir():
            paths = [path for path in self.path.iterdir() if ID.match(path.name)]
            folders = [folder for path in paths if has_begun(folder := Folder(path))]
            yield from sorted(folders, key=lambda folder: folder.history.stat().st_ctime_ns)

    def find(self, name: str) -> Folder:
        """The search with this id, or with the only id that begins so.

        Raises:
            NoSearch: there is none.
            BadInput: there is more than one.
        """
        folders = {folder.id: folder for folder in self.searches()}
        matches = [folder for id, folder in folders.items() if id.startswith(name)]
        if name in folders:
            return folders[name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise BadInput(f"{name}: could be {' or '.join(folder.id for folder in matches)}")
        where = f" in {self.path}; `diffsweep ls` lists what is there"
        raise NoSearch(f"{name}: no such search{nearest(name, folders)}{where}")
