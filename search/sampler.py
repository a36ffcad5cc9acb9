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
import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.designs import combinations, evolve, sobol
from search.dimensions import Range, between
from search.history import Trial
from search.pareto import Aims, better
from search.space import Space, distributions

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
}


@dataclass
class Sampler:
    """Proposes trials over the optimizers `names`."""

    space: Space
    names: list[str]
    kind: str = "tpe"
    seed: int = 0
    aims: Aims = (("val_loss", "min"),)  # the objectives; the first one leads
    study_name: str = "study"
    _told: dict[int, tuple[tuple[str, int], FrozenTrial | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metric, self.mode = self.aims[0]

    def ask(
        self, number: int, trials: Sequence[Trial], optimizer: str | None
    ) -> dict[str, Any] | None:
        """Propose trial `number` after `trials`, if given with this optimizer: by dimension.

        None when a grid is exhausted.
        """
        seen = {identity(trial.chosen) for trial in trials}
        if self.kind == "grid":
            return next((c for c in self.grid(optimizer) if identity(c) not in seen), None)
        own = optimizer or self.names[number % len(self.names)]
        if self.kind == "qmc":
            before = sum(trial.optimizer == own for trial in trials)
            return self._fresh(seen, lambda n: sobol(self.space, own, self.seed, before + n))
        if self.kind == "cmaes":
            mine = [trial for trial in trials if trial.optimizer == own]
            worth = furthest_first(self.metric, self.mode)
            return self._fresh(
                seen, lambda n: evolve(self.space, own, mine, worth, mix(self.seed, number, n))
            )
        return self._fresh(seen, lambda attempt: self._draw(number, attempt, trials, optimizer))

    def spread(
        self, number: int, trials: Sequence[Trial], optimizer: str, turn: int, turns: int
    ) -> dict[str, Any]:
        """One of an optimizer's first `turns` trials, spread over its ranges.

        The learning rate takes a stratum of its range in each turn, those in the middle first:
        ranges are made to have the good values inside. All else is drawn at random.
        """
        key, seen = f"{optimizer}.lr", {identity(trial.chosen) for trial in trials}
        dimension = dict(self.space.dimensions(optimizer))[key]
        order = sorted(range(turns), key=lambda s: (abs(s - (turns - 1) / 2), s))

        def draw(attempt: int) -> dict[str, Any]:
            chosen = self._draw(number, attempt, (), optimizer, "random")
            if isinstance(dimension, Range):
                inside = random.Random(mix(self.seed, number, attempt)).random()  # noqa: S311
                chosen[key] = between(dimension, (order[turn] + inside) / turns)
            return chosen

        return self._fresh(seen, draw)

    def _fresh(self, seen: set[str], draw: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """The first of some draws that was not tried before; a small space may have none."""
        for attempt in range(ATTEMPTS):
            chosen = draw(attempt)
            if identity(chosen) not in seen:
                break
        return chosen

    def grid(self, optimizer: str | None = None) -> list[dict[str, Any]]:
        """Every combination of choices, optimizers in turn."""
        names = self.names if optimizer is None else [optimizer]
        rounds = itertools.zip_longest(*(combinations(self.space, name) for name in names))
        return [chosen for one in rounds for chosen in one if chosen is not None]

    def study(self, trials: Sequence[Trial], journal: Path | None = None) -> optuna.Study:
        """The search as an Optuna study, in memory or in a journal file for Optuna's tools."""
        storage = JournalStorage(JournalFileBackend(str(journal))) if journal else None
        with quiet():
            study = optuna.create_study(
                study_name=self.study_name,
                storage=storage or InMemoryStorage(),
                directions=["minimize" if mode == "min" else "maximize" for _, mode in self.aims],
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
            study.sampler = SAMPLERS[kind](mix(self.seed, number, attempt))
            if optimizer is not None and len(self.names) > 1:
                study.enqueue_trial({"optimizer": optimizer})
            return self.space.propose(study.ask(), self.names)

    def _tell(self, trial: Trial, trials: Sequence[Trial]) -> FrozenTrial | None:
        """A trial as Optuna should see it; None where it says nothing about the space."""
        version = trial.state, len(trial.reports)
        if trial.state != "diverged" and len(self.aims) == 1 and trial.number in self._told:
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
        if len(self.aims) > 1:
            return self._frozen_with_values(trial, trials, params)
        values = {
            report["samples"]: report[self.metric]
            for report in trial.reports
            if self.metric in report
        }
        if trial.state == "diverged":  # nothing else: TPE ranks those that got further higher
            values = {0: self._penalty(trials)}
        state = STATES[trial.state]
        return create_trial(
            state=state,
            params=params,
            distributions=distributions(self.space, trial.chosen["optimizer"], self.names),
            value=trial.last(self.metric) if state == TrialState.COMPLETE else None,
            intermediate_values=values,
            user_attrs={"diffsweep.trial": trial.number, "diffsweep.state": trial.state},
        )

    def _frozen_with_values(
        self, trial: Trial, trials: Sequence[Trial], params: dict[str, Any]
    ) -> FrozenTrial | None:
        """A trial for a study of several objectives, where Optuna knows no pruned ones.

        One that was stopped counts with its last values: its loss is above what it would have
        become. What it lacks is as bad as the worst that was seen; after divergence, all is worse.
        """
        state, last = STATES[trial.state], trial.reports[-1] if trial.reports else {}
        if state == TrialState.PRUNED:
            if not last:
                return None
            state = TrialState.COMPLETE
        values = []
        for metric, mode in self.aims:
            penalty = self._penalty(trials, metric, mode)
            value = penalty if trial.state == "diverged" else last.get(metric)
            values.append(penalty if value is None else value)
        return create_trial(
            state=state,
            params=params,
            distributions=distributions(self.space, trial.chosen["optimizer"], self.names),
            values=values if state == TrialState.COMPLETE else None,
            user_attrs={"diffsweep.trial": trial.number, "diffsweep.state": trial.state},
        )

    def _penalty(
        self, trials: Sequence[Trial], metric: str | None = None, mode: str | None = None
    ) -> float:
        """Finite, and worse than all that was seen."""
        metric, mode = metric or self.metric, mode or self.mode
        values = [r[metric] for t in trials for r in t.reports if metric in r] or [1.0]
        sign = 1 if mode == "min" else -1
        worst = max(values, key=lambda value: sign * value)
        penalty: float = worst + sign * PENALTY * max(abs(worst), 1e-12)
        return penalty


def furthest_first(metric: str, mode: str) -> Callable[[Trial], tuple[float, float]]:
    """A sort key: trials that got further come first, and among equals the better ones."""
    ranked = better(mode)

    def key(trial: Trial) -> tuple[float, float]:
        value = trial.last(metric)
        bad = value is None or trial.state == "diverged"
        return (math.inf, 0.0) if bad else (-trial.samples, ranked(value or 0.0))

    return key


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
