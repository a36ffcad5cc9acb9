"""How the winners stand against each other after the confirm stage, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.engine.analysis import objective, seconds
from search.engine.confirm import (
    STEADY,
    asked_for,
    confirmations,
    looks_for,
    overlap_of,
    replicates_of,
    reruns_of,
    seeds_of,
    seeds_of_each,
    test_metric,
    winners,
)
from search.history.book import ENDED, Book, Trial
from search.judging.comparing import Verdict, compare, mean_interval
from search.judging.looks import Judged, judge, looks_of
from search.spec.spec import Confirm

QUALITY = {"quality_mmd": "min", "quality_fd": "min"}


@dataclass
class Contender:
    """A winner of the search, and its trainings on fresh seeds.

    With several searches of each optimizer it is the optimizer, with the winners of all of them.
    """

    name: str  # its optimizer, with the trial's number where one optimizer has several
    sources: list[Trial]
    trials: dict[int, Trial] = field(default_factory=dict)  # complete ones by seed
    diverged: list[Trial] = field(default_factory=list)
    lost: list[Trial] = field(default_factory=list)  # failed by themselves, but not by diverging
    reruns: dict[int, Trial] = field(default_factory=dict)  # for as long as the fastest took

    @property
    def source(self) -> Trial:
        """The winner, of several the best."""
        return self.sources[0]

    @property
    def decays(self) -> bool:
        """Whether its learning rate falls towards the end of its budget."""
        return any(trial.config["lr_schedule"] not in STEADY for trial in self.sources)

    @property
    def seconds_per_step(self) -> float:
        """Of training alone, over all its seeds."""
        spent = [seconds(trial) for trial in self.trials.values()]
        steps = [trial.reports[-1]["step"] for trial in self.trials.values()]
        return float(sum(spent) / sum(steps))

    @property
    def seconds(self) -> float:
        """Of training for the full budget, on average."""
        return self.seconds_per_step * int(self.source.config["steps"])

    def curve(self, seed: int, metric: str) -> tuple[list[int], list[float]]:
        """Steps, and the metric at each."""
        reports = [r for r in self.trials[seed].reports if metric in r]
        values = [r[metric] for r in reports]
        # at the end it is measured on more, with other luck: what was before is moved along
        moved = values[-1] - reports[-1].get(f"{metric}_few", values[-1])
        values[:-1] = [value + moved for value in values[:-1]]
        return [r["step"] for r in reports], values

    def values(self, metric: str) -> dict[int, float]:
        """The last value of a metric, by seed."""
        return {seed: trial.reports[-1][metric] for seed, trial in self.trials.items()}


@dataclass
class EqualTime:
    """Where contenders stood when the fastest of them had finished."""

    seconds: float
    verdicts: list[Verdict]
    cut: list[str]  # who was in the middle of a schedule that decays towards the end


@dataclass
class Standing:
    """Contenders, the seeds that all of them completed, and what their seeds say."""

    contenders: list[Contender]  # judged by their losses
    diverged: list[Contender]  # behind all that did not
    unstable: list[Contender]  # lost a seed for good by another failure, and not judged
    units: list[list[int]]  # seeds that all completed: those of each search, else one by one
    judged: Judged | None = None  # at equal samples
    equal_time: EqualTime | None = None
    quality: dict[str, list[Verdict]] = field(default_factory=dict)  # by metric, at equal samples

    @property
    def everyone(self) -> list[Contender]:
        return [*self.contenders, *self.diverged, *self.unstable]

    @property
    def verdicts(self) -> list[Verdict]:
        return self.judged.verdicts if self.judged else []

    @property
    def seeds(self) -> list[int]:
        """Those that all contenders completed."""
        return [seed for unit in self.units for seed in unit]

    def values(self, metric: str) -> dict[str, list[float]]:
        """The last value of a metric by contender, in the units that all completed."""
        return {c.name: by_unit(self.units, c.values(metric)) for c in self.contenders}

    def take(self) -> dict[str, Any] | None:
        """What to take, and how the others stand; None where nothing can be said yet."""
        others = [contender.name for contender in self.diverged]
        numbers = {c.name: [source.number for source in c.sources] for c in self.contenders}
        if self.judged is not None:
            take = self.judged.take()
            trials = numbers[take["optimizer"]]
            return take | {"trials": trials, "behind": [*take["behind"], *others]}
        if len(self.contenders) != 1 or not others or not self.seeds:
            return None
        name = self.contenders[0].name
        alone = {"optimizer": name, "trials": numbers[name], "within": 0.0, "as_good": []}
        return alone | {"behind": others, "undecided": [], "seeds_needed": {}}


def by_unit(units: list[list[int]], values: Mapping[int, float]) -> list[float]:
    """Means over the seeds of each unit."""
    return [float(np.mean([values[seed] for seed in unit])) for unit in units]


def standing(book: Book, margin: float) -> Standing:
    """What the confirm stage says so far; without verdicts where there is too little of it."""
    everyone = [c for c in _contenders(book) if c.trials or c.lost or c.diverged]
    diverged = [c for c in everyone if c.diverged]
    unstable = [c for c in everyone if c.lost and not c.diverged]
    # one whose host was lost counts where it has all
    stable = [c for c in everyone if not c.lost and not c.diverged]
    units = _units(book, stable)
    result = Standing(stable, diverged, unstable, units)
    if len(stable) < 2 or len(units) < 2:
        return result
    metric, mode = test_metric(book), objective(book)[1]
    among = len(stable) + len(diverged)
    result.judged = _judge(book, result, metric, margin, among)
    result.equal_time = _at_equal_time(result, metric, margin, mode, overlap_of(book))
    for name, direction in QUALITY.items():
        if all(name in c.trials[seed].reports[-1] for c in stable for seed in result.seeds):
            values, scale = result.values(name), _span(name, stable[0])
            result.quality[name] = compare(
                values, margin, direction, scale=scale, overlap=overlap_of(book)
            )
    return result


def _units(book: Book, contenders: list[Contender]) -> list[list[int]]:
    """The seeds that all contenders completed, those of a search together."""
    if not contenders:
        return []
    wanted, several = asked_for(book) or Confirm(), replicates_of(book)
    common = set.intersection(*(set(c.trials) for c in contenders))
    order, each = seeds_of(book, wanted), seeds_of_each(wanted) if several > 1 else 1
    units = [order[place : place + each] for place in range(0, len(order), each)]
    return [unit for unit in units if common.issuperset(unit)]


def _judge(
    book: Book, standing: Standing, metric: str, margin: float, among: int
) -> Judged | None:
    wanted, several, mode = asked_for(book) or Confirm(), replicates_of(book), objective(book)[1]
    how: dict[str, Any] = {"among": among, "overlap": overlap_of(book)}
    if several > 1:  # what is judged are searches, and there is one look at them
        values = standing.values(metric)
        by_search = {name: dict(enumerate(row)) for name, row in values.items()}
        count = len(standing.units)
        return judge(by_search, range(count), looks_of([count]), margin, mode, **how)
    losses = {contender.name: contender.values(metric) for contender in standing.contenders}
    order, looks = seeds_of(book, wanted), looks_for(book, wanted)
    return judge(losses, order, looks, margin, mode, **how)


def _span(metric: str, contender: Contender) -> float | None:
    """From real examples to noise: of a distance near zero, a share of itself means nothing."""
    last: Mapping[str, Any] = next(iter(contender.trials.values())).reports[-1]
    ends = last.get(f"{metric}_real"), last.get(f"{metric}_noise")
    return None if ends[0] is None or ends[1] is None else abs(ends[1] - ends[0])


def _contenders(book: Book) -> list[Contender]:
    confirmed = winners(book, asked_for(book) or Confirm())
    optimizers, several = [trial.optimizer for trial in confirmed], replicates_of(book) > 1
    found = dict[str, Contender]()
    for winner in confirmed:
        alone = several or optimizers.count(winner.optimizer) == 1
        name = winner.optimizer if alone else f"{winner.optimizer}-{winner.number}"
        contender = found.setdefault(name, Contender(name, []))
        contender.sources.append(winner)
        done = [trial for trial in reruns_of(book, winner) if trial.state == "complete"]
        contender.reruns |= {trial.config["seed"]: trial for trial in done}
        for trial in confirmations(book, winner):
            if trial.state == "complete":
                contender.trials[trial.config["seed"]] = trial
            elif trial.state == "diverged":
                contender.diverged.append(trial)
            elif trial.state in ENDED and not trial.taken:
                contender.lost.append(trial)
    return list(found.values())


def _at_equal_time(
    standing: Standing, metric: str, margin: float, mode: str, overlap: float
) -> EqualTime:
    """Where each contender stood when the fastest had finished.

    By the mean speed of each over its seeds, so that what else the machine did during one of them
    does not decide. Between two reports the loss is taken to fall in a straight line.
    """
    time = min(contender.seconds for contender in standing.contenders)
    rerun = [set(contender.reruns) for contender in standing.contenders if contender.reruns]
    units = [unit for unit in standing.units if all(seeds.issuperset(unit) for seeds in rerun)]
    if len(units) < 2:  # not enough of them yet
        rerun, units = [], standing.units
    stood, cut = dict[str, list[float]](), list[str]()
    for contender in standing.contenders:
        steps = time / contender.seconds_per_step
        then = {
            seed: float(np.interp(steps, *contender.curve(seed, metric)))
            for seed in standing.seeds
        }
        if rerun and contender.reruns:
            then |= {seed: trial.reports[-1][metric] for seed, trial in contender.reruns.items()}
        elif steps < 0.99 * int(contender.source.config["steps"]) and contender.decays:
            cut.append(contender.name)
        stood[contender.name] = by_unit(units, then)
    return EqualTime(time, compare(stood, margin, mode, overlap=overlap), cut)


def confirmed(contender: Contender, metric: str) -> dict[str, Any]:
    """A contender's mean over its seeds, with Student's interval, and what it cost."""
    trials = [contender.trials[seed] for seed in sorted(contender.trials)]
    if not trials:
        return {"contender": contender.name, "seeds": 0}
    last = [trial.reports[-1] for trial in trials]
    values = [report[metric] for report in last]
    means = {
        name: float(np.mean([report[name] for report in last]))
        for name in last[0]
        if name.startswith(("test_", "val_", "quality_"))
        and all(isinstance(report.get(name), int | float) for report in last)
    }
    return {
        "contender": contender.name,
        "trial": contender.source.number,
        "seeds": len(values),
        "mean": means[metric],
        "interval": list(mean_interval(values)) if len(values) > 1 else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "means": means,
        "seconds": contender.seconds,
        "steps_per_second": 1 / contender.seconds_per_step,
        "peak_memory_bytes": max(report["peak_memory_bytes"] for report in last),
    }
