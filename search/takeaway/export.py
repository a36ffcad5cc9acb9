"""`diffsweep export`: trials to a folder, to S3, or to the registry."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from search.engine.analysis import ranked
from search.errors import BadInput
from search.history.book import Book, Trial
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import read_book
from search.history.storage import uri_fault
from search.takeaway.files import write_export
from trainable.actor.kept import CHECKPOINT, saved
from trainable.base.opening import open_storage
from trainable.base.storage import StorageError

MODEL_NAME = re.compile(r"^models:/([^/:.]+)$")


def export(
    folder: Folder,
    home: Home,
    to: str,
    per_optimizer: bool = False,
    form: str = "yaml",
    number: int | None = None,
) -> dict[str, Any]:
    """Write the best trial, that of each optimizer, or one by its number.

    It goes to a folder, to S3, or to the registry.

    Raises:
        BadInput: no such trial is complete with its weights kept, or the target can't be written.
    """
    book = read_book(folder.history)
    if number is not None:
        trial = exportable(folder, book, number)
        where = _export_one(folder, home, book, trial, to, "", form)
        one = {"trial": number, "optimizer": trial.optimizer, **where}
        return {"search": folder.id, "exported": [one], **one}
    names = book.spec["space"]["optimizer"] if per_optimizer else [None]
    trials = [trial for name in names for trial in ranked(book, name)[:1]]
    if not trials:
        raise BadInput(f"{folder.id}: nothing to export, no trial is complete")
    targets = [(trial, f"/{trial.optimizer}" if per_optimizer else "") for trial in trials]
    written = []
    for trial, suffix in targets:
        where = _export_one(folder, home, book, trial, to, suffix, form)
        written.append({"trial": trial.number, "optimizer": trial.optimizer, **where})
    return {"search": folder.id, "exported": written, **written[0]}


def exportable(folder: Folder, book: Book, number: int) -> Trial:
    """A complete trial whose weights were kept: those of the best, and of a Pareto front.

    Raises:
        BadInput: it is none.
    """
    trial = book.trials.get(number)
    if trial is None or trial.state != "complete":
        done = ", ".join(str(t.number) for t in book.trials.values() if t.state == "complete")
        raise BadInput(
            f"--trial {number}: no complete trial of {folder.id} (has: {done or 'none'})"
        )
    try:
        folder.checkpoint(number)
    except BadInput as error:
        kept = ", ".join(
            str(t.number)
            for t in book.trials.values()
            if t.state == "complete" and has_weights(folder, t.number)
        )
        raise BadInput(
            f"--trial {number}: its weights were not kept, as others were better (trials with "
            f"weights: {kept or 'none'}); `diffsweep train` makes them again from its config"
        ) from error
    return trial


def has_weights(folder: Folder, number: int) -> bool:
    """Whether a checkpoint of a trial is there, as far as names tell."""
    if (folder.trial(number) / CHECKPOINT).exists():
        return True
    return folder.storage is not None and bool(
        saved(folder.storage.sub(f"trials/{number}").names())
    )


def _export_one(
    folder: Folder, home: Home, book: Book, trial: Trial, to: str, suffix: str, form: str
) -> dict[str, Any]:
    """Write one trial to the target; what was written where."""
    if to.startswith("models:"):
        match = MODEL_NAME.match(to)
        if match is None:
            raise BadInput(f"--to {to}: want models:/NAME, a name without / : and dots")
        from search.takeaway.registry import register

        name = match[1] + suffix.replace("/", "-")
        return {"to": f"models:/{name}", "version": register(folder, home, book, trial, name)}
    if to.startswith("s3://"):
        with tempfile.TemporaryDirectory() as temporary:
            write_export(folder, book, trial, Path(temporary), form)
            upload(Path(temporary), to.rstrip("/") + suffix)
    elif "://" in to or to.startswith("models"):
        raise BadInput(f"--to {to}: want a folder, s3://bucket/prefix or models:/NAME")
    else:
        try:
            write_export(folder, book, trial, Path(to + suffix), form)
        except OSError as error:
            raise BadInput(f"--to {to}: {error.strerror}") from error
    return {"to": to + suffix}


def upload(folder: Path, url: str) -> None:
    """Copy the files of a folder to s3://bucket/prefix.

    Raises:
        BadInput: no bucket is named, or S3 does not take them.
    """
    if fault := uri_fault(url):
        raise BadInput(f"--to {fault}")
    try:
        open_storage(url).put_folder(folder)
    except StorageError as error:
        raise BadInput(f"--to {url}: {error}") from error
