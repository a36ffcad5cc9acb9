"""Who proposes: Optuna's samplers, shown the search as it stands.

For each proposal a study is made from the trials of the history, so there is nothing that a
restart could lose and no trial that stays open by mistake; and the seed of a proposal is made
from the spec's and the trial's number, so the same history gives the same proposal, whether or
not the driver was restarted in between.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from search.engine.designs import Wanted, mix
from search.engine.frozen import Views
from search.engine.pareto import Aims
from search.history.book import Trial
from search.spec.dimensions import Range, between
from search.spec.shelves import SAMPLERS
from search.spec.space import Space
from trainable.base.shelf import load

STARTUP, FEWEST = 10, 4  # random draws before a model proposes: Optuna's own, at least
ATTEMPTS = 20  # to propose something that was not tried yet


@dataclass
class Sampler:
    """Proposes trials over the optimizers `names`."""

    space: Space
    names: list[str]
    kind: str = "tpe"
    seed: int = 0
    aims: Aims = (("val_loss", "min"),)  # the objectives; the first one leads
    study_name: str = "study"
    budget: int = 2 * STARTUP  # trials that it will propose, about

    def __post_init__(self) -> None:
        self.metric, self.mode = self.aims[0]
        self.views = Views(self.space, self.names, self.kind, self.aims, self.seed)
        self.trials: dict[int, Trial] = {}  # that it knows, in their order
        self.seen: set[str] = set()  # their configs

    def update(self, trial: Trial) -> None:
        """A trial is new, or has changed."""
        if trial.number not in self.trials:
            self.trials[trial.number] = trial
            self.seen.add(self.space.identity(trial.chosen))
        if SAMPLERS[self.kind].learns:
            self.views.update(trial)

    def ask(self, number: int, optimizer: str | None) -> dict[str, Any] | None:
        """Propose trial `number`, if given with this optimizer: by dimension.

        None when all that the space holds was tried.
        """
        tried, entry = self._tried(optimizer), SAMPLERS[self.kind]
        if not entry.design:
            return tried.fresh(number, lambda n: self._draw(number, n, optimizer, self.kind))
        known = list(self.trials.values())
        wanted = Wanted(
            number, self.space, self.names, optimizer, known, self.seed, self.metric, self.mode
        )
        proposals: Iterator[dict[str, Any]] = load(entry.target)(wanted)
        if entry.finite:
            return next((chosen for chosen in proposals if not tried.has(chosen)), None)
        return tried.fresh(number, lambda _: next(proposals))

    def spread(self, number: int, optimizer: str, turn: int, turns: int) -> dict[str, Any] | None:
        """One of an optimizer's first `turns` trials, spread over its ranges.

        The learning rate takes a stratum of its range in each turn, those in the middle first:
        ranges are made to have the good values inside. All else is drawn at random.
        """
        key = f"{optimizer}.lr"
        dimension = dict(self.space.dimensions(optimizer))[key]
        order = sorted(range(turns), key=lambda s: (abs(s - (turns - 1) / 2), s))

        def draw(attempt: int) -> dict[str, Any]:
            chosen = self._draw(number, attempt, optimizer, "random")
            if isinstance(dimension, Range):
                inside = random.Random(mix(self.seed, number, attempt)).random()  # noqa: S311
                chosen[key] = between(dimension, (order[turn] + inside) / turns)
            return chosen

        return self._tried(optimizer).fresh(number, draw)

    def _tried(self, optimizer: str | None) -> Tried:
        """What was tried of the space, or of one optimizer's part of it."""
        names = self.names if optimizer is None else [optimizer]
        return Tried(self.space, names, self.seen, self.seed)

    def study(self, trials: Sequence[Trial], journal: Path | None = None) -> optuna.Study:
        """The search as an Optuna study, in memory or in a journal file for Optuna's tools."""
        storage = JournalStorage(JournalFileBackend(str(journal))) if journal else None
        return self._study(self.views.of(trials), storage or InMemoryStorage())

    def _study(self, trials: Sequence[FrozenTrial], storage: BaseStorage) -> optuna.Study:
        with quiet():
            study = optuna.create_study(
                study_name=self.study_name,
                storage=storage,
                directions=["minimize" if mode == "min" else "maximize" for _, mode in self.aims],
            )
            study.add_trials(trials)
        return study

    def _draw(
        self,
        number: int,
        attempt: int,
        optimizer: str | None,
        kind: str,
    ) -> dict[str, Any]:
        with quiet():
            shown = self.views.shown() if SAMPLERS[kind].learns else []
            study = self._study(shown, InMemoryStorage())
            seed, entry = mix(self.seed, number, attempt), SAMPLERS[kind]
            first = {"n_startup_trials": self._startup()} if entry.learns else {}
            study.sampler = load(entry.target)(**entry.arguments, **first, seed=seed)
            if optimizer is not None and len(self.names) > 1:
                study.enqueue_trial({"optimizer": optimizer})
            return self.space.propose(study.ask(), self.names)

    def _startup(self) -> int:
        """Trials before a model is asked: Optuna's ten, or half of what there will be."""
        return max(FEWEST, min(STARTUP, self.budget // 2))


@dataclass
class Tried:
    """What was tried of a space, which may have no more than so many points."""

    space: Space
    names: list[str]
    seen: set[str]
    seed: int

    def has(self, chosen: dict[str, Any]) -> bool:
        return self.space.identity(chosen) in self.seen

    def fresh(self, number: int, draw: Callable[[int], dict[str, Any]]) -> dict[str, Any] | None:
        """The first of some draws that was not tried before; None if nothing is left to draw."""
        for attempt in range(ATTEMPTS):
            chosen = draw(attempt)
            if not self.has(chosen):
                return chosen
        if (points := self.space.points(self.names)) is None:
            return chosen  # ranges have no end: it is a coincidence
        left = [point for point in points if not self.has(point)]
        return left[mix(self.seed, number) % len(left)] if left else None


class quiet(warnings.catch_warnings):
    """Without Optuna's notes on what is meant so here: experimental group, enqueued values."""

    def __enter__(self) -> None:
        super().__enter__()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
