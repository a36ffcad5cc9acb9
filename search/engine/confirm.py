"""The confirm stage: winners train again, in full, on fresh seeds that are the same for all.

What is owed is a function of the history, so a confirmation goes on after any end. Its trials are
outside the budget, nothing stops them early, and the sampler never hears of them.
"""

from __future__ import annotations

from typing import Any

from search.engine.analysis import ranked
from search.history.book import Book, Trial
from search.spec.spec import Confirm


def asked_for(book: Book) -> Confirm | None:
    """The confirmation that the search's spec asks for."""
    given = book.spec.get("confirm")
    return None if given is None else Confirm.model_validate(given)


def winners(book: Book, wanted: Confirm) -> list[Trial]:
    """The trials of the search that are to be confirmed, the best first."""
    if wanted.per == "search":
        return ranked(book)[: wanted.top]
    best = {
        t.number for o in book.spec["space"]["optimizer"] for t in ranked(book, o)[: wanted.top]
    }
    return [trial for trial in ranked(book) if trial.number in best]


def seeds_of(book: Book, wanted: Confirm) -> list[int]:
    """Fresh seeds: never the one that the search trained with."""
    searched: int = book.spec["trial"]["seed"]
    return [(searched + place) % 2**31 for place in range(1, wanted.seeds + 1)]


def planned(book: Book) -> int:
    """How many confirm trials there will be; before the winners are known, at most."""
    wanted = asked_for(book)
    if wanted is None:
        return 0
    if book.stage("confirm"):
        return len(book.stage("confirm")) + len(owed(book, wanted))
    groups = len(book.spec["space"]["optimizer"]) if wanted.per == "optimizer" else 1
    return groups * wanted.top * wanted.seeds


def owed(book: Book, wanted: Confirm) -> list[tuple[Trial, int]]:
    """Winners and seeds that were not asked for yet, or whose training was taken in an earlier
    session.

    Seed by seed, so that a confirmation cut short still has whole seeds to compare on.
    """
    asked = {
        (trial.source, trial.config["seed"])
        for trial in book.stage("confirm")
        if not trial.taken or trial.ended_in == book.sessions
    }
    pairs = [(trial, seed) for seed in seeds_of(book, wanted) for trial in winners(book, wanted)]
    return [(trial, seed) for trial, seed in pairs if (trial.number, seed) not in asked]


def ask_event(book: Book, winner: Trial, seed: int) -> dict[str, Any]:
    """The content of the event that asks for a confirm trial, numbered after all others."""
    return {
        "trial": max(book.trials) + 1,
        "stage": "confirm",
        "source": winner.number,
        "chosen": winner.chosen,
        "config": winner.config | {"seed": seed},
        "baseline": False,
        "full": True,
    }
