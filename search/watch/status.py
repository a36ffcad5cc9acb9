"""What a search is doing, read from its history."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from search.engine.analysis import best, by_optimizer, front, objectives, pareto, summary
from search.engine.budget import asked, elapsed, hours_used
from search.errors import Unreadable
from search.history.book import Book
from search.history.folder import Folder
from search.history.home import Home
from search.history.lease import is_driven
from search.history.log import read_book
from search.spec.spec import Resources
from search.tracking.recorder import delivered
from search.watch.progress import time_left

logger = logging.getLogger("diffsweep.status")


def open_book(folder: Folder) -> Book:
    """A search as it stands; one whose driver died without a word is interrupted."""
    book = read_book(folder.history)
    if book.state == "running" and not is_driven(folder):
        book.state = "interrupted"
    return book


def readable(home: Home) -> Iterator[Book]:
    """The searches of a home; one whose history is damaged is told of, and left out."""
    for folder in home.searches():
        try:
            yield open_book(folder)
        except Unreadable as error:
            logger.warning("%s", error)


def list_searches(home: Home) -> list[dict[str, Any]]:
    books = list(readable(home))
    return [
        {
            "id": book.id,
            "state": book.state,
            "trials": len(book.trials),
            "best": summary(best(book)),
            "started": iso(book.started),
        }
        for book in books
    ]


def status_of(folder: Folder) -> dict[str, Any]:
    book = open_book(folder)
    running, limits = book.state == "running", book.spec["budget"]
    now = time.time() if running else None
    need = Resources.model_validate(book.spec["resources"])
    return {
        "id": book.id,
        "state": book.state,
        "trials": book.counts(),
        "optimizers": by_optimizer(book),
        "best": summary(best(book)),
        "pareto": pareto(book),
        "budget": {
            "trials": {"used": asked(book), "of": limits["trials"]},
            "wall_clock": {
                "used": round(book.seconds if now is None else elapsed(book, now), 1),
                "of": limits["wall_clock"],
            },
            "gpu_hours": {
                "used": round(hours_used(need, book, now), 4),
                "of": limits["gpu_hours"],
                "counts": "GPU" if need.gpu else "CPU",
            },
        },
        "seconds_left": time_left(book) if running else None,
        "why": book.why,
        "failed": failures(book),
    }


def failures(book: Book) -> list[dict[str, Any]]:
    """The trials that failed, and why."""
    return [
        {"trial": trial.number, "optimizer": trial.optimizer, "why": trial.why}
        for trial in book.trials.values()
        if trial.state == "failed"
    ]


def list_trials(folder: Folder) -> list[dict[str, Any]]:
    book = open_book(folder)
    _, runs = delivered(folder)
    aims = objectives(book)
    best = {trial.number for trial in front(book)} if len(aims) > 1 else set()
    return [
        {
            "trial": trial.number,
            "optimizer": trial.optimizer,
            "state": trial.shown,
            "stage": trial.stage,
            "val_loss": trial.last("val_loss"),
            "step": trial.last("step") or 0,
            "config": trial.config,
            "run_id": runs.get(trial.number),
            "why": trial.why,
        }
        | (
            {
                "objectives": {metric: trial.last(metric) for metric, _ in aims},
                "pareto": trial.number in best,
            }
            if len(aims) > 1
            else {}
        )
        for trial in book.trials.values()
    ]


def iso(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
