"""Hyperband: brackets of successive halving, from the most early stopping to none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.engine.asha import Asha, Results, Verdict
from search.history.book import Trial
from search.spec.spec import SchedulerConfig


@dataclass(frozen=True)
class Hyperband:
    """Brackets of successive halving with growing grace (Li et al. 2018), dealt out in turn.

    Each optimizer's trials have their own turns, or some would always be given little grace.

    A hedge for when early results mislead: the last bracket never stops a trial early.
    """

    brackets: tuple[Asha, ...]

    def levels(self, trial: Trial) -> tuple[int, ...]:
        return self._of(trial).rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        return self._of(trial).judge(trial, self._same(trial.turn, peers))

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        found = (
            bracket.promotable(self._same(number, peers))
            for number, bracket in enumerate(self.brackets)
        )
        return next((trial for trial in found if trial), None)

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        return [
            trial
            for number, bracket in enumerate(self.brackets)
            for trial in bracket.hopeless(self._same(number, peers), to_come)
        ]

    def _of(self, trial: Trial) -> Asha:
        return self.brackets[trial.turn % len(self.brackets)]

    def _same(self, turn: int, peers: Sequence[Trial]) -> list[Trial]:
        count = len(self.brackets)
        return [trial for trial in peers if trial.turn % count == turn % count]


def hyperband(config: SchedulerConfig, rungs: tuple[int, ...], results: Results) -> Hyperband:
    """As a spec asks for it: a bracket that begins at each rung, and one without any."""
    factor, least = config.reduction_factor, config.min_results or 1
    starts = range(len(rungs) + 1)
    return Hyperband(tuple(Asha(rungs[s:], factor, results, min_results=least) for s in starts))
