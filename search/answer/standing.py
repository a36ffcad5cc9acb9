"""How the winners stand against each other after the confirm stage, and the verdicts on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.answer.verdict import Verdict, compare, mean_interval
from search.engine.analysis import objective
from search.engine.confirm import asked_for, winners
from search.history.book import ENDED, Book, Trial
from search.spec.spec import Confirm

QUALITY = {"quality_mmd": "min", "quality_fd": "min"}


@dataclass
class Contender:
    """A winner of the search, and its trainings on fresh seeds."""

    name: str  # its optimizer, with the trial's number where one optimizer has several
    source: Trial
    trials: dict[int, Trial] = field(default_factory=dict)  # complete ones by seed
    lost: list[Trial] = field(default_factory=list)  # failed by themselves: diverged, ...

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
        return [r["step"] for r in reports], [r[metric] for r in reports]


@dataclass
class Standing:
    """Contenders, the seeds that all of them completed, and what these seeds say."""

    contenders: list[Contender]  # judged: complete on every seed
    unstable: list[Contender]  # those that lost a seed for good, and are not judged
    seeds: list[int]
    verdicts: list[Verdict] = field(default_factory=list)  # at equal samples
    at_equal_time: list[Verdict] = field(default_factory=list)
    equal_time: float | None = None  # seconds in which the fastest finished, a mean over seeds
    quality: dict[str, list[Verdict]] = field(default_factory=dict)  # by metric, at equal samples

    def values(self, metric: str) -> dict[str, list[float]]:
        """The last value of a metric by contender, seed by seed."""
        return {
            c.name: [c.trials[seed].reports[-1][metric] for seed in self.seeds]
            for c in self.contenders
        }


def test_metric(book: Book) -> str:
    """The objective, on the test part."""
    return objective(book)[0].replace("val_", "test_", 1)


def standing(book: Book, margin: float) -> Standing:
    """What the confirm stage says so far; without verdicts where there is too little of it."""
    everyone = [c for c in _contenders(book) if c.trials or c.lost]
    unstable = [c for c in everyone if c.lost]
    stable = [c for c in everyone if not c.lost]  # one whose host was lost counts where it has all
    seeds = sorted(set.intersection(*(set(c.trials) for c in stable))) if stable else []
    result = Standing(stable, unstable, seeds)
    if len(stable) < 2 or len(seeds) < 2:
        return result
    metric, mode = test_metric(book), objective(book)[1]
    result.verdicts = compare(result.values(metric), margin, mode)
    result.equal_time, stood = _at_equal_time(result, metric)
    result.at_equal_time = compare(stood, margin, mode)
    for name, direction in QUALITY.items():
        if all(name in c.trials[seed].reports[-1] for c in stable for seed in seeds):
            result.quality[name] = compare(result.values(name), margin, direction)
    return result


def _contenders(book: Book) -> list[Contender]:
    confirmed = winners(book, asked_for(book) or Confirm())
    optimizers = [trial.optimizer for trial in confirmed]
    found = []
    for winner in confirmed:
        alone = optimizers.count(winner.optimizer) == 1
        name = winner.optimizer if alone else f"{winner.optimizer}-{winner.number}"
        contender = Contender(name, winner)
        for trial in book.stage("confirm"):
            if trial.source == winner.number and trial.state == "complete":
                contender.trials[trial.config["seed"]] = trial
            elif trial.source == winner.number and trial.state in ENDED and not trial.taken:
                contender.lost.append(trial)
        found.append(contender)
    return found


def _at_equal_time(standing: Standing, metric: str) -> tuple[float, dict[str, list[float]]]:
    """Where each contender stood when the fastest had finished, seed by seed.

    The trainings of one seed run side by side, so what else the machine did then slows them
    alike; between seeds, the times may differ. Returns the mean of the times too, in seconds.
    Between two reports the loss is taken to fall in a straight line.
    """
    times: list[float] = []
    stood: dict[str, list[float]] = {contender.name: [] for contender in standing.contenders}
    for seed in standing.seeds:
        times.append(min(seconds(c.trials[seed]) for c in standing.contenders))
        for contender in standing.contenders:
            clock, (_, values) = spent(contender.trials[seed]), contender.curve(seed, metric)
            stood[contender.name].append(float(np.interp(times[-1], clock, values)))
    return float(np.mean(times)), stood


def spent(trial: Trial) -> list[float]:
    """Seconds of training at each report, validation and checkpoints left out."""
    clock, total, before = [], 0.0, 0
    for report in trial.reports:
        if report["steps_per_second"]:
            total += (report["step"] - before) / report["steps_per_second"]
        before = report["step"]
        clock.append(total)
    return clock


def seconds(trial: Trial) -> float:
    """Of training, up to the last report."""
    return spent(trial)[-1] if trial.reports else 0.0


def confirmed(standing: Standing, contender: Contender, metric: str) -> dict[str, Any]:
    """A contender's mean over the seeds, with Student's interval, and what it cost."""
    trials = [contender.trials[seed] for seed in standing.seeds if seed in contender.trials]
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
