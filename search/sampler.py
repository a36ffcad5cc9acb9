"""Who proposes: Optuna through ask and tell, told the truth about every trial."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.history import Trial
from search.space import Space

PENALTY = 10.0  # a diverged trial counts as this many times the worst value seen
ATTEMPTS = 20  # to propose something that was not tried yet

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # group: optimizers have parameters of their own; constant liar: trials run in parallel
    "tpe": lambda seed: TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


class Sampler:
    """Proposes for the optimizers `names`, and learns from what became of its proposals.

    Its study is a view of the history: trials are told to it again when a search goes on. Each
    proposal is drawn from a seed of its own, made from the spec's and the trial's number, so the
    same history gives the same proposal, whether or not the driver was restarted in between.
    """

    def __init__(
        self,
        space: Space,
        names: list[str],
        kind: str = "tpe",
        seed: int = 0,
        mode: str = "min",
        study_name: str = "study",
        journal: Path | None = None,
    ) -> None:
        self.space, self.names, self.kind, self.seed, self.mode = space, names, kind, seed, mode
        storage = JournalStorage(JournalFileBackend(str(journal))) if journal else None
        with quiet():
            self.study = optuna.create_study(
                study_name=study_name,
                storage=storage or InMemoryStorage(),
                direction="minimize" if mode == "min" else "maximize",
            )
        self._asked: dict[int, optuna.Trial] = {}  # trials that are open in the study
        self._seen: set[str] = set()
        self._worst: float | None = None

    def ask(self, number: int, optimizer: str | None = None) -> dict[str, Any]:
        """Propose trial `number`, if asked for with this optimizer: values by dimension."""
        with quiet():
            for attempt in range(ATTEMPTS):
                self.study.sampler = SAMPLERS[self.kind](mix(self.seed, number, attempt))
                if optimizer is not None and len(self.names) > 1:
                    self.study.enqueue_trial({"optimizer": optimizer})
                trial = self.study.ask()
                chosen = self.space.propose(trial, self.names)
                if (key := identity(chosen)) not in self._seen or attempt == ATTEMPTS - 1:
                    break
                self.study.tell(trial, state=TrialState.FAIL)  # proposed before
        self._seen.add(key)
        self._remember(number, trial)
        return chosen

    def add(self, trial: Trial) -> None:
        """Learn of a trial that was not asked for here: a baseline, or one from the history.

        A trial outside the space can't be told to Optuna, and is left out.
        """
        self._seen.add(identity(trial.chosen))
        params = self.space.encode(trial.chosen, self.names)
        if params is not None:
            with quiet():
                self.study.sampler = RandomSampler(seed=0)  # nothing is left to draw
                self.study.enqueue_trial(params)
                opened = self.study.ask()
                self.space.propose(opened, self.names)
            self._remember(trial.number, opened)

    def report(self, number: int, samples: int, value: float) -> None:
        """An intermediate value of the objective."""
        if (trial := self._asked.get(number)) is not None:
            trial.report(value, step=samples)
        if self._worst is None or (value > self._worst) == (self.mode == "min"):
            self._worst = value

    def tell(self, number: int, state: str, samples: int, value: float | None) -> None:
        """How a trial ended; a diverged one counts with a penalty, a failed one not at all."""
        trial = self._asked.pop(number, None)
        if trial is None:
            return
        if state == "complete":
            self.study.tell(trial, value)
        elif state in ("pruned", "paused") and value is not None:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif state == "diverged":
            trial.report(self._penalty(), step=samples + 1)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _penalty(self) -> float:
        """Finite, and worse than all that was seen."""
        worst = 1.0 if self._worst is None else self._worst
        return worst + (1 if self.mode == "min" else -1) * PENALTY * max(abs(worst), 1e-12)

    def _remember(self, number: int, trial: optuna.Trial) -> None:
        trial.set_user_attr("diffsweep.trial", number)
        self._asked[number] = trial


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
