"""Learning from earlier searches: what is taken from them, and what is not, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.console import Console

from search.engine.analysis import objectives
from search.history.book import Book, Trial
from search.history.folder import Folder
from search.history.log import read_book
from search.spec.spec import SearchSpec

# what in trial makes losses comparable
TASK = (
    *("dataset", "model", "diffusion", "loss", "validation_examples", "final_examples"),
    *("ema", "precision", "init", "freeze", "adapters", "augment"),
)
TAKEN = ("complete", "pruned", "diverged")


def import_trials(
    spec: SearchSpec, folders: list[Folder], console: Console, data: str
) -> list[dict[str, Any]]:
    """The trials of earlier searches that this one's sampler may learn from.

    `data` is the fingerprint of this search's examples.
    """
    taken: list[dict[str, Any]] = []
    for folder in folders:
        book = read_book(folder.history)
        if (why := refusal(spec, book, data)) is not None:
            console.print(f"{folder.id}: nothing taken, {why}")
            continue
        refused: Counter[str] = Counter()
        for trial in book.stage("search"):
            if (reason := unfit(spec, trial)) is None:
                content = asdict(trial) | {"number": -1 - len(taken)}  # none of this search's own
                taken.append(content)
            else:
                refused[reason] += 1
        count = len(book.stage("search")) - refused.total()
        left = "".join(f", {n} left out: {reason}" for reason, n in refused.items())
        console.print(f"{folder.id}: {count} trials taken{left}")
    return taken


def refusal(spec: SearchSpec, book: Book, data: str) -> str | None:
    """Why nothing of a search compares with this spec; None if its trials do."""
    if objectives(book) != spec.aims:
        return "its objective is another"
    ours, theirs = spec.trial.model_dump(mode="json"), book.spec["trial"]
    for key in TASK:
        if ours[key] != theirs[key]:
            return f"trial.{key} is {theirs[key]} there and {ours[key]} here"
    if theirs["steps"] * theirs["batch_size"] != spec.trial.samples:
        return "its trials had another budget of samples"
    if book.origin.get("data", data) != data:
        return "its data had other examples"
    return None


def unfit(spec: SearchSpec, trial: Trial) -> str | None:
    """Why a single trial is left out; None if it is not."""
    if trial.state not in TAKEN:
        return trial.shown
    if trial.optimizer not in spec.space.optimizer:
        return "an optimizer that is not searched here"
    try:
        inside = spec.space.encode(trial.chosen, spec.optimizers) is not None
    except KeyError:
        inside = False
    return None if inside else "outside this space"
