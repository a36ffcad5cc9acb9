"""The home: where all searches lie, and how one is found, here or in storage."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from search.errors import BadInput, NoSearch
from search.history.folder import ID, Folder, has_begun, new_id
from search.history.lock import DriverLock
from search.history.pieces import HISTORY
from search.history.pulling import pull
from search.history.storage import check_local, uri_fault, where
from trainable.base.durable import replace
from trainable.base.faults import nearest
from trainable.base.opening import open_storage
from trainable.base.storage import AT_ONCE, StorageError

logger = logging.getLogger("diffsweep.home")


def refresh(folder: Folder) -> None:
    """Bring the history of a search up to date here, if it is kept elsewhere."""
    if folder.storage is None or DriverLock.held(folder.lock):  # a driver here is ahead
        return
    try:
        pull(folder)
    except StorageError as error:
        logger.warning("%s: as it was when the storage was last seen: %s", folder.id, error)


def is_known(folder: Folder) -> bool:
    """Whether a search was begun here, or brought here: its folder alone may be a dead one's."""
    return folder.storage_uri.exists() or folder.lock.exists()


class Home:
    """The folder that holds all searches and the embedded MLflow store."""

    def __init__(self, path: Path | None = None, storage: str | None = None) -> None:
        self.storage = storage or os.environ.get("DIFFSWEEP_STORAGE") or None
        if self.storage is not None:
            if fault := uri_fault(self.storage):
                raise BadInput(f"storage: {fault}")
            self.storage = where(self.storage)
        self.path = (path or Path(os.environ.get("DIFFSWEEP_HOME", "runs"))).absolute()
        self.store = self.path / "mlflow.db"
        self.store_uri = f"sqlite:///{self.store}"
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
            check_local(
                self.path, "DIFFSWEEP_HOME", "use a local folder, and `storage:` for a shared one"
            )
        except OSError as error:
            raise BadInput(
                f"DIFFSWEEP_HOME: can't write to {self.path}: {error.strerror}"
            ) from error

    def new(self, name: str, storage: str | None = None, id: str | None = None) -> Folder:
        """A folder for a new search of this name, under an id of its own, or the one given."""
        while True:
            folder = Folder(self.path / (id or new_id(name)))
            if id or not folder.path.exists():
                folder.path.mkdir(parents=True, exist_ok=True)
                if storage is not None:
                    replace(folder.storage_uri, storage.encode())
                return folder

    def searches(self) -> Iterator[Folder]:
        """All searches here and in the home's storage, as they stand; the newest last."""
        self._bring_all()
        if self.path.is_dir():
            paths = [path for path in self.path.iterdir() if ID.match(path.name)]
            folders = [folder for path in paths if has_begun(folder := Folder(path))]
            yield from sorted(folders, key=lambda folder: folder.history.stat().st_ctime_ns)

    def _bring_all(self) -> None:
        """Bring the histories of all searches in storage up to date here."""
        names = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if self.storage is not None:
            names |= set(open_storage(self.storage).folders())
        folders = [self._adopted(name) for name in names if ID.match(name)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(refresh, folders))

    def _adopted(self, name: str) -> Folder:
        """A search's folder; made, as a working copy of what is in storage, if it is not here."""
        folder = Folder(self.path / name)
        if self.storage is not None and not is_known(folder):
            replace(folder.storage_uri, self.storage.encode())
        return folder

    def _exactly(self, name: str) -> Folder | None:
        """The search with this id, without a look at any other."""
        if not ID.match(name):
            return None
        elsewhere = self.storage is not None and not is_known(Folder(self.path / name))
        if elsewhere and not open_storage(str(self.storage)).sub(name).names(HISTORY):
            return None
        folder = self._adopted(name)
        refresh(folder)
        return folder if has_begun(folder) else None

    def find(self, name: str) -> Folder:
        """The search with this id, or with the only id that begins so.

        Raises:
            NoSearch: there is none.
            BadInput: there is more than one.
        """
        if (found := self._exactly(name)) is not None:
            return found
        folders = {folder.id: folder for folder in self.searches()}
        matches = [folder for id, folder in folders.items() if id.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise BadInput(f"{name}: could be {' or '.join(folder.id for folder in matches)}")
        places = f"{self.path} or {self.storage}" if self.storage else str(self.path)
        hint = f" in {places}; `diffsweep ls` lists what is there"
        raise NoSearch(f"{name}: no such search{nearest(name, folders)}{hint}")
