"""Trials made by hand, for decisions about them."""

from __future__ import annotations

from typing import Any

from search.history.book import Trial


def trial(number: int, *losses: float, state: str = "running", every: int = 10) -> Trial:
    """A trial that reported these losses, one each `every` samples."""
    reports = [
        {"samples": every * (i + 1), "step": i + 1, "val_loss": loss}
        for i, loss in enumerate(losses)
    ]
    return made(number, reports, state)


def made(number: int, reports: list[dict[str, Any]], state: str = "paused") -> Trial:
    """A trial with these reports, after those of all with lower numbers."""
    came = [1000 * number + place for place in range(len(reports))]
    return Trial(number, "search", {}, {}, state=state, reports=reports, came=came)
