"""What a user would install or wire together instead, driven in virtual time.

The deciding code is the peers' own: Ray's scheduler and searcher and Optuna's sampler and pruner
are called as their tuners call them, Syne Tune's in a process of its own environment.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from problems import Problem
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from search.engine.sampler import quiet
from search.spec.dimensions import Choices, Range, between, quantile_of
from search.spec.space import settings

HERE = Path(__file__).parent
SYNE_PYTHON = HERE / ".venv-syne" / "bin" / "python"
UNITS = 64  # of training that a full one has
Chosen = dict[str, Any]
Trace = list[tuple[float, float]]  # (compute, loss) of each new best complete trial


class Peer(Protocol):
    """One run of one peer."""

    levels: tuple[int, ...]  # units of training at which it looks, below UNITS

    def ask(self, number: int) -> Chosen:
        """The config of trial `number`, by dimension."""
        ...

    def report(self, number: int, units: int, loss: float) -> bool:
        """Take in a loss; whether the trial goes on. After UNITS none does."""
        ...


def drive(peer: Peer, problem: Problem, workers: int, limit: float) -> Trace:
    """One search with `workers` trials at a time, until `limit` full trainings are spent."""
    configs: list[Chosen] = []
    queue: list[tuple[float, int, int]] = []  # (time, trial, units) of the reports to come
    trace: Trace = []

    def work(now: float, number: int, done: int) -> None:
        target = min([UNITS, *(level for level in peer.levels if level > done)])
        heapq.heappush(queue, (now + (target - done) / UNITS, number, target))

    def begin(now: float) -> None:
        configs.append(settings(peer.ask(len(configs))))
        work(now, len(configs) - 1, 0)

    for _ in range(workers):
        begin(0.0)
    while queue[0][0] * workers <= limit:
        now, number, units = heapq.heappop(queue)
        loss = problem.loss(configs[number], units / UNITS)
        if units == UNITS and (not trace or loss < trace[-1][1]):
            trace.append((now * workers, loss))
        if peer.report(number, units, loss) and units < UNITS:
            work(now, number, units)
        else:
            begin(now)
    return trace


def rungs(grace: int, factor: int) -> tuple[int, ...]:
    """grace x factor^k below a full training."""
    return tuple(grace * factor**k for k in range(7) if grace * factor**k < UNITS)


def encode(chosen: Chosen, problem: Problem) -> dict[str, Any]:
    """A config as the parameters that Space.propose asks Optuna for."""
    params = problem.space.encode(chosen, problem.names)
    assert params is not None, chosen
    return params


class FullBudget:
    """Random search that never stops a trial."""

    levels: tuple[int, ...] = ()

    def __init__(self, problem: Problem, seed: int, baselines: list[Chosen]) -> None:
        self.problem = problem
        self.study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        for chosen in baselines:
            self.study.enqueue_trial(encode(chosen, problem))

    def ask(self, number: int) -> Chosen:
        return self.problem.space.propose(self.study.ask(), self.problem.names)

    def report(self, number: int, units: int, loss: float) -> bool:
        return True


class Ray:
    """Ray Tune's OptunaSearch and ASHAScheduler, called as its controller calls them.

    A result that the scheduler lets pass goes to the searcher; a stopped trial is told to the
    searcher as completed, with its last result.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        baselines: list[Chosen],
        *,
        sampler: str,
        grace: int,
        factor: int,
    ) -> None:
        space, names = problem.space, problem.names
        self.searcher = OptunaSearch(
            space=lambda trial: {"chosen": space.propose(trial, names)},
            metric="loss",
            mode="min",
            points_to_evaluate=[encode(chosen, problem) for chosen in baselines],
            sampler={
                "random": optuna.samplers.RandomSampler(seed=seed),
                "tpe": optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
            }[sampler],
        )
        self.scheduler = AsyncHyperBandScheduler(
            "units", "loss", "min", max_t=UNITS, grace_period=grace, reduction_factor=factor
        )
        self.levels = rungs(grace, factor)

    def ask(self, number: int) -> Chosen:
        self.scheduler.on_trial_add(None, SimpleNamespace(trial_id=str(number)))
        suggested = self.searcher.suggest(str(number))
        assert suggested is not None
        chosen: Chosen = suggested["chosen"]
        return chosen

    def report(self, number: int, units: int, loss: float) -> bool:
        trial = SimpleNamespace(trial_id=str(number))
        result = {"units": units, "training_iteration": units, "loss": loss}
        if self.scheduler.on_trial_result(None, trial, result) == "STOP":
            self.scheduler.on_trial_complete(None, trial, result)
            self.searcher.on_trial_complete(str(number), result)
            return False
        self.searcher.on_trial_result(str(number), result)
        return True


class Hyperband:
    """Optuna's own TPE and HyperbandPruner, by ask and tell."""

    def __init__(
        self, problem: Problem, seed: int, baselines: list[Chosen], *, grace: int, factor: int
    ) -> None:
        self.problem, self.levels = problem, rungs(grace, factor)
        sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=seed
        )
        pruner = optuna.pruners.HyperbandPruner(grace, UNITS, factor)
        self.study = optuna.create_study(
            study_name=str(seed), sampler=sampler, pruner=pruner
        )  # the pruner deals brackets by the name
        for chosen in baselines:
            self.study.enqueue_trial(encode(chosen, problem))
        self.trials: dict[int, optuna.Trial] = {}

    def ask(self, number: int) -> Chosen:
        self.trials[number] = self.study.ask()
        return self.problem.space.propose(self.trials[number], self.problem.names)

    def report(self, number: int, units: int, loss: float) -> bool:
        trial = self.trials[number]
        trial.report(loss, units)
        if units == UNITS:
            self.study.tell(trial, loss)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        return True


class Syne:
    """A scheduler of Syne Tune, in its own process: syne_server.py.

    It has no conditional spaces. It gets the optimizer, the quantile of each knob of the same
    name in that optimizer's own range, and what all share, which makes optimizers comparable.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        baselines: list[Chosen],
        *,
        server: subprocess.Popen[str],
        scheduler: str,
        grace: int,
        factor: int,
    ) -> None:
        self.problem, self.server = problem, server
        self.levels = () if scheduler == "BORE" else rungs(grace, factor)
        knobs: dict[str, Any] = {"optimizer": problem.names}
        for name in problem.names:
            for key, dimension in problem.space.dimensions(name):
                if isinstance(dimension, Range):
                    knobs[self._knob(key)] = None  # a quantile
                elif isinstance(dimension, Choices):
                    knobs[self._knob(key)] = [json.dumps(v) for v in dimension.values]
        points = [self._flat(chosen, knobs) for chosen in baselines]
        self._call(
            new=scheduler, space=knobs, seed=seed, points=points, grace=grace, factor=factor,
            units=UNITS,
        )  # fmt: skip

    def ask(self, number: int) -> Chosen:
        flat = self._call(ask=number)
        chosen: Chosen = {"optimizer": flat["optimizer"]}
        for key, dimension in self.problem.space.dimensions(flat["optimizer"]):
            if isinstance(dimension, Range):
                chosen[key] = between(dimension, flat[self._knob(key)])
            elif isinstance(dimension, Choices):
                chosen[key] = json.loads(flat[self._knob(key)])
            else:
                chosen[key] = dimension.value
        return chosen

    def report(self, number: int, units: int, loss: float) -> bool:
        return bool(self._call(report=number, at=units, loss=loss))

    def _flat(self, chosen: Chosen, knobs: dict[str, Any]) -> dict[str, Any]:
        flat: dict[str, Any] = {knob: 0.5 for knob in knobs} | {"optimizer": chosen["optimizer"]}
        for key, dimension in self.problem.space.dimensions(chosen["optimizer"]):
            if isinstance(dimension, Range):
                flat[self._knob(key)] = min(max(quantile_of(dimension, chosen[key]), 0.0), 1.0)
            elif isinstance(dimension, Choices):
                flat[self._knob(key)] = json.dumps(chosen[key])
        return flat

    @staticmethod
    def _knob(key: str) -> str:
        return key.rpartition(".")[2]

    def _call(self, **message: Any) -> Any:
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(json.dumps(message) + "\n")
        self.server.stdin.flush()
        answer = self.server.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server of Syne Tune ended: {self.server.wait()}")
        return json.loads(answer)


@contextmanager
def syne_server() -> Iterator[subprocess.Popen[str]]:
    """Syne Tune in its own environment, spoken to in lines of JSON."""
    server = subprocess.Popen(
        [SYNE_PYTHON, HERE / "syne_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"OMP_NUM_THREADS": "1"},  # on shared cores its threads wait for each other
    )
    try:
        yield server
    finally:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.close()
        server.stdout.close()
        server.wait(timeout=30)


def silence() -> None:
    """Optuna's notes on each trial are no news here."""
    quiet().__enter__()
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def regret_at(trace: Trace, best: float, compute: float) -> float:
    """Of the best trial that was complete once so much was spent; inf if none was."""
    losses = [loss for spent, loss in trace if spent <= compute]
    return losses[-1] / best - 1 if losses else math.inf


def compute_to(trace: Trace, target: float, limit: float) -> tuple[float, bool]:
    """Compute until a complete trial was as good as `target`; a run that never was is censored
    at the limit.
    """
    spent = next((spent for spent, loss in trace if loss <= target), None)
    return (limit, False) if spent is None else (spent, True)
