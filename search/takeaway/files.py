"""The files of an export: config, weights, numbers, samples, and a card that explains them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from search.answer.describe import yaml_text
from search.engine.analysis import best
from search.errors import BadInput
from search.history.book import Book, Trial
from search.history.folder import Folder
from search.takeaway.card import card, confirmation
from search.takeaway.hf_args import hf_text
from trainable.config import TrialConfig

HF_ARGS = "hf-args.txt"


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
    from trainable.actor.checkpoint import write_weights

    to.mkdir(parents=True, exist_ok=True)
    weights = trial.reports[-1]["weights"]
    write_weights(folder.checkpoint(trial.number), weights, to / "model.safetensors")
    (to / "config.yaml").write_text(yaml_text(trial.config))
    (to / "metrics.json").write_text(json.dumps(metrics_of(book, trial), indent=2) + "\n")
    grid = folder.grid(trial.number)
    (to / "README.md").write_text(card(book, trial, grid.exists()))
    if grid.exists():
        shutil.copy(grid, to / "samples.png")
    if (folder.own / "code").is_dir():  # a submitted search's config names its code from there
        shutil.copytree(folder.own / "code", to / "code", dirs_exist_ok=True)
    if form == "hf-args":
        from trainable.data.loading import load_data

        config = TrialConfig.model_validate(trial.config)
        examples = len(load_data(config.dataset).train.x)
        (to / HF_ARGS).write_text(hf_text(config, examples))


def metrics_of(book: Book, trial: Trial) -> dict[str, Any]:
    """The trial's last report at full precision, where it comes from, and how it was confirmed."""
    found = confirmation(book, trial)
    content = {**trial.reports[-1], "search": book.id, "trial": trial.number}
    return content if found is None else content | {"confirmed": found}
