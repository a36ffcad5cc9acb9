"""What people take home: the config, the weights, the numbers, and a card that explains them."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from search.analysis import best, ranked
from search.card import card, confirmation
from search.describe import yaml_text
from search.errors import BadInput
from search.hf_args import hf_text
from search.history import Book, Trial, read_book
from search.home import Folder, Home
from search.storage import uri_fault
from trainable.config import TrialConfig
from trainable.kept import CHECKPOINT, saved
from trainable.storage import StorageError, open_storage

HF_ARGS = "hf-args.txt"
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
        from search.publish import register

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


def export_best(folder: Folder, book: Book, to: Path) -> Trial:
    """Write the best trial's config, weights, metrics, card and samples to a folder.

    Raises:
        BadInput: no trial is complete.
    """
    trial = best(book)
    if trial is None:
        raise BadInput(f"{folder.id}: nothing to export, no trial is complete")
    write_export(folder, book, trial, to)
    return trial


def write_export(folder: Folder, book: Book, trial: Trial, to: Path, form: str = "yaml") -> None:
    """Write one trial's export; with `hf-args` also the flags of diffusers' script."""
    from safetensors.torch import save_file

    from trainable.checkpoint import read_kind, read_weights

    to.mkdir(parents=True, exist_ok=True)
    checkpoint = folder.checkpoint(trial.number)
    weights = read_weights(checkpoint, trial.reports[-1]["weights"])
    save_file(  # copies, since safetensors refuses tensors that share memory
        {key: tensor.contiguous().clone() for key, tensor in weights.items()},
        to / "model.safetensors",
        metadata=read_kind(checkpoint),
    )
    mask = os.umask(0)
    os.umask(mask)
    (to / "model.safetensors").chmod(0o666 & ~mask)  # safetensors makes it readable by us alone
    (to / "config.yaml").write_text(yaml_text(trial.config))
    (to / "metrics.json").write_text(json.dumps(metrics_of(book, trial), indent=2) + "\n")
    grid = folder.grid(trial.number)
    (to / "README.md").write_text(card(book, trial, grid.exists()))
    if grid.exists():
        shutil.copy(grid, to / "samples.png")
    if (folder.own / "code").is_dir():  # a submitted search's config names its code from there
        shutil.copytree(folder.own / "code", to / "code", dirs_exist_ok=True)
    if form == "hf-args":
        from trainable.datasets import load_data

        config = TrialConfig.model_validate(trial.config)
        examples = len(load_data(config.dataset).train.x)
        (to / HF_ARGS).write_text(hf_text(config, examples))


def metrics_of(book: Book, trial: Trial) -> dict[str, Any]:
    """The trial's last report at full precision, where it comes from, and how it was confirmed."""
    found = confirmation(book, trial)
    content = {**trial.reports[-1], "search": book.id, "trial": trial.number}
    return content if found is None else content | {"confirmed": found}


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
