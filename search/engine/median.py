"""The median stopping rule."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from search.engine.asha import Results, Verdict
from search.history.book import Trial
from search.spec.spec import SchedulerConfig

FEWEST = 3  # other trials that a median is taken of, unless the spec says otherwise


@dataclass(frozen=True)
class Median:
    """The median stopping rule (Golovin et al. 2017, section 3.2.2), looked at on rungs.

    A trial is stopped for good if its best value so far is worse than the median, over the other
    trials that got as far, of their means up to there.
    """

    rungs: tuple[int, ...]
    min_results: int
    results: Results

    def levels(self, trial: Trial) -> tuple[int, ...]:
        return self.rungs

    def judge(self, trial: Trial, peers: Sequence[Trial]) -> Verdict:
        if not self.rungs or trial.samples < self.rungs[0]:
            return "go"
        others = [
            self._mean(peer, trial.samples)
            for peer in peers
            if peer.number != trial.number and peer.samples >= trial.samples
        ]
        means = [mean for mean in others if mean is not None]
        values = [v for report in trial.reports if (v := self.results.value(report)) is not None]
        if len(means) < self.min_results or not values:
            return "go"
        return "stop" if min(values) > statistics.median(means) else "go"

    def promotable(self, peers: Sequence[Trial]) -> Trial | None:
        return None

    def hopeless(self, peers: Sequence[Trial], to_come: int) -> list[Trial]:
        return []

    def _mean(self, trial: Trial, samples: int) -> float | None:
        values = [
            value
            for report in trial.reports
            if report["samples"] <= samples and (value := self.results.value(report)) is not None
        ]
        return sum(values) / len(values) if values else None


def median(config: SchedulerConfig, rungs: tuple[int, ...], results: Results) -> Median:
    """As a spec asks for it."""
    return Median(rungs, config.min_results or FEWEST, results)
