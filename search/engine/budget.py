"""What a search has spent, and whether that is enough: functions of its history."""

from __future__ import annotations

from search.history.book import Book
from search.spec.spec import Resources, SearchSpec


def reached(spec: SearchSpec, book: Book, now: float) -> str | None:
    """The budget that is spent at time `now` (seconds since the epoch).

    Time comes first: once all trials are proposed, those at work can still run out of it.
    """
    if (spent := out_of_time(spec, book, now)) is not None:
        return spent
    limit = spec.budget.trials
    if spec.allocation == "equal":  # whole rounds: each optimizer gets as many
        limit -= limit % (len(spec.optimizers) * spec.replicates)
    return "trials" if asked(book) >= max(limit, 1) else None


def out_of_time(spec: SearchSpec, book: Book, now: float) -> str | None:
    """The budget of time that is spent: wall_clock or gpu_hours."""
    budget = spec.budget
    if budget.wall_clock is not None and elapsed(book, now) >= budget.wall_clock:
        return "wall_clock"
    if budget.gpu_hours is None or hours_used(spec.resources, book, now) < budget.gpu_hours:
        return None
    return "gpu_hours"


def asked(book: Book) -> int:
    """Trials that count: all of the search but those that the user added."""
    return len(book.searched) - book.added


def elapsed(book: Book, now: float) -> float:
    """Seconds that drivers of this search have run, the present one up to `now`."""
    since = 0.0 if book.last_event is None else now - book.last_event / 1000
    return book.seconds + max(0.0, since)


def hours_used(need: Resources, book: Book, now: float | None = None) -> float:
    """GPU-hours of the search's trials, up to `now` for running ones; CPU-hours without GPUs.

    Confirm trials are outside the budget.
    """
    seconds: float = book.seconds_of["search"]
    if now is not None:
        began = [t.began for t in book.at_work.values() if t.stage == "search"]
        seconds += sum(max(0.0, now - ms / 1000) for ms in began if ms is not None)
    return seconds / 3600 * (need.gpu or need.cpu) * need.workers
