"""What people do to a search while it runs or after: requests, configs of their own, removal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.errors import BadInput
from search.history.book import ENDED
from search.history.control import send
from search.history.folder import Folder
from search.history.home import Home
from search.history.lease import is_driven
from search.history.log import read_book
from search.spec.space import choice_of
from search.spec.spec import SearchSpec
from search.tracking.forget import forget
from search.tracking.recorder import delivered
from trainable.base.faults import first_fault
from trainable.config import TrialConfig
from trainable.config_file import read_config


def ask_driver(folder: Folder, verb: str, meaning: str, **content: Any) -> str:
    """Leave a request, and say what comes of it."""
    book = read_book(folder.history)
    if verb == "kill":
        if (trial := book.trials.get(content["trial"])) is None:
            raise BadInput(f"{folder.id}: has no trial {content['trial']}")
        if trial.state in ENDED and not trial.again:
            return f"{folder.id}: trial {trial.number} has ended already, it is {trial.shown}"
    if is_driven(folder):
        ends = verb in ("stop", "cancel")  # this driver; it may have ended when the request comes
        send(folder, verb, book.sessions if ends else None, **content)
        return f"{folder.id}: {meaning}"
    state = "interrupted" if book.state == "running" else book.state
    if verb in ("stop", "cancel"):
        return f"{folder.id} is not running, it is {state}"
    send(folder, verb, **content)
    return f"{folder.id} is {state}; `diffsweep resume {folder.id}` will see to it"


def chosen_from(folder: Folder, config: Path) -> dict[str, Any]:
    """A config of the user's own, by the dimensions of a search.

    Raises:
        BadInput: it is no config, or an optimizer that the search does not have.
    """
    spec = SearchSpec.model_validate(read_book(folder.history).spec)
    given = read_config(config)
    if given.optimizer.type not in spec.space.optimizer:
        known = ", ".join(spec.optimizers)
        raise BadInput(
            f"{config}: optimizer {given.optimizer.type} is not searched (has: {known})"
        )
    chosen = choice_of(given, spec.space)
    try:
        spec.resolve(chosen)
    except ValidationError as error:
        fault = first_fault(error, TrialConfig)
        raise BadInput(f"{config}: can't be trained in {folder.id}: {fault}") from error
    return chosen


def remove(home: Home, search: str, dry_run: bool) -> Iterator[str]:
    """Delete a search's folder and its MLflow runs; say so line by line.

    Raises:
        BadInput: there is no such search, its driver runs, or MLflow does not answer.
    """
    folder = home.find(search)
    if is_driven(folder):
        raise BadInput(f"{folder.id}: its driver is running; cancel it first")
    spec = SearchSpec.model_validate(read_book(folder.history).spec)
    size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
    word = "would delete" if dry_run else "deleted"
    if dry_run:
        offset, runs = delivered(folder)
        yield f"would delete its {len(runs) + bool(offset)} runs in MLflow"  # its own run, too
    else:
        yield from forget(home, spec, folder.id)
        if folder.storage is not None:
            folder.storage.delete_all()
        shutil.rmtree(folder.path)
    if folder.storage is not None:
        yield f"{word} {folder.storage.uri}"
    yield f"{word} {folder.path} ({size / 1e6:.1f} MB)"
