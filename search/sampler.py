"""Who proposes: Optuna's samplers, shown the search as it stands.

Nothing is remembered here either. For each proposal a study is made from the trials of the
history, so there is nothing that a restart could lose and no trial that stays open by mistake;
and the seed of a proposal is made from the spec's and the trial's number, so the same history
gives the same proposal, whether or not the driver was restarted in between.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.history import Trial
from search.space import Range, Space, between, distributions

PENALTY = 10.0  # a diverged trial counts as worse than the worst value seen by so many times it
ATTEMPTS = 20  # to propose something that was not tried yet
STATES = {
    "pending": TrialState.RUNNING,
    "running": TrialState.RUNNING,
    "paused": TrialState.PRUNED,  # until it goes on
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "complete": TrialState.COMPLETE,
}
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # group: optimizers have parameters of their own; constant liar: trials run in parallel
    "tpe": lambda seed: TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "qmc": lambda seed: QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False),
}
SEQUENCES = ("qmc",)  # one sequence for the whole search: the seed is the spec's alone


@dataclass
class Sampler:
    """Proposes trials over the optimizers `names`."""

    space: Space
    names: list[str]
    kind: str = "tpe"
    seed: int = 0
    metric: str = "val_loss"
    mode: str = "min"
    study_name: str = "study"
    _told: dict[int, tuple[tuple[str, int], FrozenTrial | None]] = field(default_factory=dict)

    def ask(self, number: int, trials: Sequence[Trial], optimizer: str | None) -> dict[str, Any]:
        """Propose trial `number` after `trials`, if given with this optimizer: by dimension."""
        seen = {identity(trial.chosen) for trial in trials}
        if self.kind == "grid":
            return next(c for c in self.grid(optimizer) if identity(c) not in seen)
        for attempt in range(ATTEMPTS):
            chosen = self._draw(number, attempt, trials, optimizer)
            if identity(chosen) not in seen:
                break
        return chosen

    def spread(self, number: int, optimizer: str, turn: int, turns: int) -> dict[str, Any]:
        """One of an optimizer's first `turns` trials, spread over its ranges.

        The learning rate takes a stratum of its range in each turn, those in the middle first:
        ranges are made to have the good values inside. All else is drawn at random.
        """
        chosen = self._draw(number, 0, (), optimizer, "random")
        key = f"{optimizer}.lr"
        dimension = dict(self.space.dimensions(optimizer))[key]
        if isinstance(dimension, Range):
            order = sorted(range(turns), key=lambda s: (abs(s - (turns - 1) / 2), s))
            inside = random.Random(mix(self.seed, number)).random()  # noqa: S311
            chosen[key] = between(dimension, (order[turn] + inside) / turns)
        return chosen

    def grid(self, optimizer: str | None = None) -> list[dict[str, Any]]:
        """Every combination of choices, optimizers in turn."""
        names = self.names if optimizer is None else [optimizer]
        combinations = [_combinations(self.space, name) for name in names]
        rounds = itertools.zip_longest(*combinations)
        return [chosen for one in rounds for chosen in one if chosen is not None]

    def study(self, trials: Sequence[Trial], journal: Path | None = None) -> optuna.Study:
        """The search as an Optuna study, in memory or in a journal file for Optuna's tools."""
        storage = JournalStorage(JournalFileBackend(str(journal))) if journal else None
        with quiet():
            study = optuna.create_study(
                study_name=self.study_name,
                storage=storage or InMemoryStorage(),
                direction="minimize" if self.mode == "min" else "maximize",
            )
            study.add_trials([told for t in trials if (told := self._tell(t, trials)) is not None])
        return study

    def _draw(
        self,
        number: int,
        attempt: int,
        trials: Sequence[Trial],
        optimizer: str | None,
        kind: str | None = None,
    ) -> dict[str, Any]:
        kind = kind or self.kind
        with quiet():
            study = self.study(() if kind == "random" else trials)
            parts = (self.seed,) if kind in SEQUENCES else (self.seed, number, attempt)
            study.sampler = SAMPLERS[kind](mix(*parts))
            if optimizer is not None and len(self.names) > 1:
                study.enqueue_trial({"optimizer": optimizer})
            return self.space.propose(study.ask(), self.names)

    def _tell(self, trial: Trial, trials: Sequence[Trial]) -> FrozenTrial | None:
        """A trial as Optuna should see it; None where it says nothing about the space."""
        version = trial.state, len(trial.reports)
        if trial.state != "diverged" and trial.number in self._told:
            known, told = self._told[trial.number]
            if known == version:
                return told
        told = self._frozen(trial, trials)
        self._told[trial.number] = version, told
        return told

    def _frozen(self, trial: Trial, trials: Sequence[Trial]) -> FrozenTrial | None:
        params = self.space.encode(trial.chosen, self.names)
        if params is None or trial.state not in STATES:
            return None
        values = {
            report["samples"]: report[self.metric]
            for report in trial.reports
            if self.metric in report
        }
        if trial.state == "diverged":
            values[trial.samples + 1] = self._penalty(trials)
        state = STATES[trial.state]
        return create_trial(
            state=state,
            params=params,
            distributions=distributions(self.space, trial.chosen["optimizer"], self.names),
            value=trial.last(self.metric) if state == TrialState.COMPLETE else None,
            intermediate_values=values,
            user_attrs={"diffsweep.trial": trial.number, "diffsweep.state": trial.state},
        )

    def _penalty(self, trials: Sequence[Trial]) -> float:
        """Finite, and worse than all that was seen."""
        values = [r[self.metric] for t in trials for r in t.reports if self.metric in r] or [1.0]
        sign = 1 if self.mode == "min" else -1
        worst = max(values, key=lambda value: sign * value)
        penalty: float = worst + sign * PENALTY * max(abs(worst), 1e-12)
        return penalty


def _combinations(space: Space, name: str) -> list[dict[str, Any]]:
    dimensions = dict(space.dimensions(name))
    products = itertools.product(*(dimension.ends for dimension in dimensions.values()))
    return [{"optimizer": name, **dict(zip(dimensions, p, strict=True))} for p in products]


def mix(*parts: int) -> int:
    """A seed of 32 bits from several numbers."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def identity(chosen: dict[str, Any]) -> str:
    """Equal for equal choices."""
    return json.dumps(chosen, sort_keys=True)


class quiet(warnings.catch_warnings):
    """Without Optuna's notes on what is meant so here: experimental group, enqueued values."""

    def __enter__(self) -> None:
        super().__enter__()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
