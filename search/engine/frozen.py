"""The trials of a search as Optuna sees them, and which of them it is shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from itertools import islice
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial
from sortedcontainers import SortedList

from search.engine.designs import mix
from search.engine.pareto import Aims, Fronts, better, layers, signed
from search.history.book import AT_WORK, CUT, Trial
from search.spec.shelves import SAMPLERS
from search.spec.space import Space, distributions

PENALTY = 10.0  # a diverged trial counts as worse than the worst value seen by so many times it
SHOWN = 500  # trials that have ended, at most, of which a model is made for a proposal
BEST = 25  # of them, the best, which TPE models apart from all others
FAR = 10**9  # more than the trials of any search
STATES = {
    **dict.fromkeys(AT_WORK, TrialState.RUNNING),
    "paused": TrialState.PRUNED,  # until it goes on
    CUT: TrialState.PRUNED,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "complete": TrialState.COMPLETE,
}


class Views:
    """Makes Optuna's trials of ours, and keeps tables of those that tell most (`telling`)."""

    def __init__(self, space: Space, names: list[str], kind: str, aims: Aims, seed: int) -> None:
        self.space, self.names, self.kind, self.aims, self.seed = space, names, kind, aims, seed
        self.kept: dict[int, tuple[Any, FrozenTrial | None]] = {}  # what was shown last
        self.at_work: dict[int, Trial] = {}
        self.read: Counter[int] = Counter()  # reports of each trial that `worst` knows
        self.worst: list[float | None] = [None] * len(aims)  # value seen of each objective
        self.keys: dict[int, tuple[Any, Any]] = {}  # of a trial that ended, in the next two
        self.best, self.lots = SortedList(), SortedList()

    def update(self, trial: Trial) -> None:
        """A trial has begun, reported, gone on or ended."""
        if news := trial.reports[self.read[trial.number] :]:
            known = zip(self.worst, self.aims, strict=True)
            self.worst = [_worse(worst, news, aim) for worst, aim in known]
        self.read[trial.number] = len(trial.reports)
        self.at_work.pop(trial.number, None)
        if (keys := self.keys.pop(trial.number, None)) is not None:
            self.best.remove(keys[0])
            self.lots.remove(keys[1])
        if trial.state in AT_WORK:
            self.at_work[trial.number] = trial
            return
        place = _place(trial)
        best = *_merit(trial, self.aims), place, trial
        keys = self.keys[trial.number] = best, (mix(self.seed, trial.number), place, trial)
        self.best.add(keys[0])
        self.lots.add(keys[1])

    def shown(self) -> list[FrozenTrial]:
        """Those that tell most, as Optuna should see them."""
        views = self._of(sorted(self.telling(), key=_place), self.worst)
        self.kept = {number: self.kept[number] for number in views}
        return [view for view in views.values() if view is not None]

    def telling(self) -> list[Trial]:
        """At most SHOWN of the trials that ended, and all at work, as the function has them."""
        top = {key[-1].number: key[-1] for key in self._best()}
        rest = (key[-1] for key in self.lots if key[-1].number not in top)
        return [*top.values(), *islice(rest, SHOWN - len(top)), *self.at_work.values()]

    def _best(self) -> list[Any]:
        """The keys of the BEST trials."""
        if len(self.aims) == 1:
            return list(self.best[:BEST])
        depth = Fronts((key[0] for key in self.best), most=BEST).depth
        leading = (key for key in self.best if key[0] in depth)
        return nsmallest(BEST, leading, key=lambda key: (depth[key[0]], key))

    def of(self, trials: Sequence[Trial]) -> list[FrozenTrial]:
        """All of these trials, without those that say nothing about the space."""
        reports = [report for trial in trials for report in trial.reports]
        worst = [_worse(None, reports, aim) for aim in self.aims]
        return [view for view in self._of(trials, worst).values() if view is not None]

    def _of(
        self, trials: Sequence[Trial], worst: Sequence[float | None]
    ) -> dict[int, FrozenTrial | None]:
        penalties = [_penalty(w, mode) for w, (_, mode) in zip(worst, self.aims, strict=True)]
        return {trial.number: self._view(trial, penalties) for trial in trials}

    def _view(self, trial: Trial, penalties: list[float]) -> FrozenTrial | None:
        told = penalties if trial.state == "diverged" or len(self.aims) > 1 else None
        version = trial.state, len(trial.reports), told
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
    the best are front by front.
    """
    ended = [trial for trial in trials if trial.state not in AT_WORK]
    merits = [_merit(trial, aims) for trial in ended]
    depth = layers([merit[0] for merit in merits]) if len(aims) > 1 else [0] * len(ended)
    best_first = sorted(range(len(ended)), key=lambda place: (depth[place], merits[place]))
    rest = sorted(best_first[BEST:], key=lambda place: mix(seed, ended[place].number))
    shown = {ended[place].number for place in (*best_first[:BEST], *rest[: SHOWN - BEST])}
    return [t for t in trials if t.number in shown or t.state in AT_WORK]


def _merit(trial: Trial, aims: Aims) -> tuple[Any, ...]:
    """A sort key: those first that a model should know as good, as TPE orders them."""
    last = signed(trial.reports[-1] if trial.reports else {}, aims)
    if len(aims) > 1:
        return (last,)
    done = trial.state == "complete"
    return trial.state == "diverged", not done, 0 if done else -trial.samples, last


def _place(trial: Trial) -> int:
    """The order of trials: those of earlier searches, which count down from -1, come first."""
    return trial.number if trial.number >= 0 else -FAR - trial.number


def _worse(
    worst: float | None, reports: Sequence[dict[str, Any]], aim: tuple[str, str]
) -> float | None:
    """The worst value of an objective in some reports, or that known before."""
    values = (worst, *(report.get(aim[0]) for report in reports))
    finite = (value for value in values if value is not None and math.isfinite(value))
    return max(finite, key=better(aim[1]), default=None)


def _penalty(worst: float | None, mode: str) -> float:
    """Finite, and worse than all that was seen."""
    worst = 1.0 if worst is None else worst
    return worst + better(mode)(PENALTY * max(abs(worst), 1e-12))
