"""The trials of a search as Optuna sees them, and which of them it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from search.engine.designs import mix
from search.engine.pareto import Aims, Point, layers, signed
from search.history.book import AT_WORK, CUT, Trial
from search.spec.shelves import SAMPLERS
from search.spec.space import Space, distributions

PENALTY = 10.0  # a diverged trial counts as worse than the worst value seen by so many times it
SHOWN = 500  # trials that have ended, at most, of which a model is made for a proposal
BEST = 25  # of them, the best, which TPE models apart from all others
STATES = {
    **dict.fromkeys(AT_WORK, TrialState.RUNNING),
    "paused": TrialState.PRUNED,  # until it goes on
    CUT: TrialState.PRUNED,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "complete": TrialState.COMPLETE,
}


@dataclass
class Views:
    """Makes Optuna's trials of ours, each once for as long as it does not change."""

    space: Space
    names: list[str]  # of the optimizers that compete
    kind: str  # of sampler
    aims: Aims
    kept: dict[int, tuple[Any, FrozenTrial | None]] = field(default_factory=dict)

    def of(self, trials: Sequence[Trial], seed: int | None = None) -> list[FrozenTrial]:
        """As Optuna should see these trials, without those that say nothing about the space.

        With a seed, only those that tell most, if there are many.
        """
        penalties = [_penalty(trials, metric, mode) for metric, mode in self.aims]
        shown = trials if seed is None else telling(trials, self.aims, seed)
        views = (self._view(trial, penalties) for trial in shown)
        return [view for view in views if view is not None]

    def _view(self, trial: Trial, penalties: list[float]) -> FrozenTrial | None:
        version = trial.state, len(trial.reports), penalties
        known, view = self.kept.get(trial.number, (None, None))
        if known != version:
            view = self._make(trial, penalties)
            self.kept[trial.number] = version, view
        return view

    def _make(self, trial: Trial, penalties: list[float]) -> FrozenTrial | None:
        params = self.space.encode(trial.chosen, self.names)
        if params is None or trial.state not in STATES:
            return None
        told = (self._several if len(self.aims) > 1 else self._one)(trial, penalties)
        if told is None:
            return None
        return create_trial(
            params=params,
            distributions=distributions(self.space, trial.chosen["optimizer"], self.names),
            user_attrs={"diffsweep.trial": trial.number, "diffsweep.state": trial.shown},
            **told,
        )

    def _one(self, trial: Trial, penalties: list[float]) -> dict[str, Any] | None:
        """With one objective: its value at the end, and those before."""
        state, metric = STATES[trial.state], self.aims[0][0]
        values = {r["samples"]: r[metric] for r in trial.reports if metric in r}
        if trial.state == "diverged":  # nothing else: TPE ranks those that got further higher
            values = {0: penalties[0]}
        value = trial.last(metric) if state == TrialState.COMPLETE else None
        if SAMPLERS[self.kind].from_complete and state == TrialState.PRUNED and values:
            # what was stopped would be unknown to it; its loss is above what it would have become
            state, value = TrialState.COMPLETE, values[max(values)]
        return {"state": state, "value": value, "intermediate_values": values}

    def _several(self, trial: Trial, penalties: list[float]) -> dict[str, Any] | None:
        """With several, where Optuna knows no pruned trials.

        One that was stopped counts with its last values: its loss is above what it would have
        become. What it lacks is as bad as the worst that was seen; after divergence, all is worse.
        """
        if trial.state in AT_WORK:
            return {"state": TrialState.RUNNING}
        if not trial.reports:
            return None
        last = {} if trial.state == "diverged" else trial.reports[-1]
        known = [last.get(metric) for metric, _ in self.aims]
        values = [p if v is None else v for v, p in zip(known, penalties, strict=True)]
        return {"state": TrialState.COMPLETE, "values": values}


def telling(trials: Sequence[Trial], aims: Aims, seed: int) -> Sequence[Trial]:
    """At most SHOWN of the trials that ended, and all at work, in their order.

    Those are the BEST ones, and a sample of the others that stays as it is while more come. TPE
    models the 25 best apart from all others (Bergstra et al. 2011), so the first model is the
    same as if it were shown all; that of the others is made of a sample. With several objectives
    the good ones are a tenth of what is shown, front by front.
    """
    ended = [place for place, t in enumerate(trials) if t.state not in AT_WORK]
    if len(ended) <= SHOWN:
        return trials
    best_first = [ended[place] for place in _order([trials[place] for place in ended], aims)]
    rest = sorted(best_first[BEST:], key=lambda place: _lot(seed, trials[place].number))
    shown = {*best_first[:BEST], *rest[: SHOWN - BEST]}
    return [t for place, t in enumerate(trials) if place in shown or t.state in AT_WORK]


@cache
def _lot(seed: int, number: int) -> int:
    """What a trial drew, once for all proposals."""
    return mix(seed, number)


def _order(ended: Sequence[Trial], aims: Aims) -> list[int]:
    """Places of trials, those first that a model should know as good: as TPE orders them."""
    lasts = [signed(trial.reports[-1] if trial.reports else {}, aims) for trial in ended]
    if len(aims) > 1:
        depth = layers(lasts)
        return sorted(range(len(ended)), key=lambda place: (depth[place], lasts[place]))

    def merit(place: int) -> tuple[bool, bool, int, Point]:
        trial = ended[place]
        done = trial.state == "complete"
        return trial.state == "diverged", not done, 0 if done else -trial.samples, lasts[place]

    return sorted(range(len(ended)), key=merit)


def _penalty(trials: Sequence[Trial], metric: str, mode: str) -> float:
    """Finite, and worse than all that was seen."""
    values = [r[metric] for t in trials for r in t.reports if metric in r] or [1.0]
    sign = 1 if mode == "min" else -1
    worst = max(values, key=lambda value: sign * value)
    penalty: float = worst + sign * PENALTY * max(abs(worst), 1e-12)
    return penalty
