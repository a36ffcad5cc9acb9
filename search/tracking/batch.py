"""What some events of a history mean for each run of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from search.history.book import Book, Event
from trainable.metrics import REPORT_METRICS

Point = tuple[str, float, int, int]  # metric, value, time (ms since the epoch), step


@dataclass
class News:
    """What happened to one trial."""

    asked: int | None = None  # when it was proposed, if it was (ms since the epoch)
    began: bool = False
    points: list[Point] = field(default_factory=list)


@dataclass
class Batch:
    """What happened in some events."""

    end: int  # bytes of the history up to there
    started: Event | None = None  # the last start of a driver
    finished: Event | None = None  # its end, if it has ended since
    trials: dict[int, News] = field(default_factory=dict)


def collect(book: Book, events: Sequence[tuple[Event, int]]) -> Batch:
    """Apply events, each with the offset behind it, to a book, and sort them by run.

    In what state a trial is at last, the book tells.
    """
    batch = Batch(end=events[-1][1])
    for event, _ in events:
        book.apply(event)
        _take_in(batch, event)
    return batch


def _take_in(batch: Batch, event: Event) -> None:
    match event["event"]:
        case "start":
            batch.started, batch.finished = event, None
        case "finish":
            batch.finished = event
        case "ask":
            batch.trials.setdefault(event["trial"], News()).asked = event["time"]
        case "begin":
            batch.trials.setdefault(event["trial"], News()).began = True
        case "report":
            news = batch.trials.setdefault(event["trial"], News())
            news.points += points(event["metrics"], event["time"])
        case "end":
            batch.trials.setdefault(event["trial"], News())


def points(metrics: dict[str, Any], time: int) -> list[Point]:
    """The values of a report that runs hold as curves."""
    step = metrics["step"]
    return [(name, metrics[name], time, step) for name in REPORT_METRICS if name in metrics]
