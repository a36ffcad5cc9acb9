"""The benchmark of the search engine: its clock, measures and curves, and that all peers run."""

from __future__ import annotations

import math

import bench_search
import pytest
from bench_search import METHODS, Cell, run_cell, summary
from peers import (
    SYNE_PYTHON,
    UNITS,
    FullBudget,
    Ray,
    compute_to,
    drive,
    regret_at,
    rungs,
    silence,
)
from problems import PROBLEMS, Problem
from scipy.stats import spearmanr

from search.spec.space import settings


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_search, "LIMIT", 6.0)
    silence()


class Stops(FullBudget):
    """Stops every trial at a quarter, but for trial 2."""

    levels = (UNITS // 4,)

    def report(self, number: int, units: int, loss: float) -> bool:
        return number == 2


def test_the_clock_counts_what_is_trained() -> None:
    problem = PROBLEMS["digits8"][1](0)
    alone = drive(Stops(problem, 0, []), problem, workers=1, limit=10)
    assert alone[0][0] == 0.25 + 0.25 + 1.0
    both = drive(Stops(problem, 0, []), problem, workers=2, limit=10)
    assert both[0][0] == 2 * (0.25 + 1.0)  # trial 2 begins when trial 0 is stopped


def test_a_run_that_never_finds_is_censored_at_the_limit() -> None:
    trace = [(2.0, 1.2), (5.0, 1.1)]
    assert compute_to(trace, 1.1, limit=9.0) == (5.0, True)
    assert compute_to(trace, 1.0, limit=9.0) == (9.0, False)
    rows = [{"trace": trace, "best": best} for best in (1.0, 1.095)]
    measured = summary(rows)
    assert measured["found"] == 0.5
    assert measured["compute_to_1pct"]["iqm"] == (6.0 + 5.0) / 2  # the limit is 6 here


def test_regret_is_that_of_what_was_complete_by_then() -> None:
    trace = [(2.0, 1.2), (5.0, 1.1)]
    assert regret_at(trace, 1.0, 1.9) == math.inf
    assert regret_at(trace, 1.0, 4.9) == pytest.approx(0.2)
    assert regret_at(trace, 1.0, 5.0) == pytest.approx(0.1)


def test_ray_is_told_and_decides_as_in_its_controller() -> None:
    problem = PROBLEMS["digits8"][1](0)
    peer = Ray(problem, 0, [], sampler="random", grace=16, factor=2)
    assert peer.levels == rungs(16, 2) == (16, 32)
    for number in range(3):
        peer.ask(number)
    assert peer.report(0, 16, 0.5)  # the first to arrive always goes on
    assert not peer.report(1, 16, 0.6)
    assert peer.report(2, 16, 0.4)
    assert not peer.report(2, UNITS, 0.3)
    states = {t.number: (t.state.name, t.value) for t in peer.searcher._ot_study.trials}
    assert states[1] == ("COMPLETE", 0.6)  # as Ray tells it, though it was stopped
    assert states[2] == ("COMPLETE", 0.3) and states[0] == ("RUNNING", None)


def configs(problem: Problem, count: int) -> list[dict[str, object]]:
    peer = FullBudget(problem, 7, [])
    return [settings(peer.ask(number)) for number in range(count)]


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_config_beats_the_best_that_is_known(name: str) -> None:
    problem = PROBLEMS[name][1](3)
    losses = [problem.loss(config, 1.0) for config in configs(problem, 200)]
    assert problem.best <= min(losses) < 1.2 * problem.best
    assert all(problem.of(settings(b), 1.0) > 1.01 * problem.best for b in problem.baselines)


def test_early_ranks_hold_on_one_problem_and_cross_on_the_other() -> None:
    def correlation(name: str) -> float:
        problem = PROBLEMS[name][1](0)
        drawn = configs(problem, 200)
        early = [problem.loss(config, 1 / 8) for config in drawn]
        return float(spearmanr(early, [problem.loss(config, 1.0) for config in drawn])[0])

    assert correlation("hold") > 0.9 > 0.5 > correlation("cross")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_and_depends_on_its_seed_alone(name: str) -> None:
    method = METHODS[name]
    if method.stack == "syne" and not SYNE_PYTHON.exists():
        pytest.skip("Syne Tune is installed by make bench-search")
    setting = method.settings[0] or (method.like and (8, 2)) or None
    cell = Cell("hold", name, setting, True, 5)
    first = run_cell(cell)
    assert first["trace"] and first["trace"][0][0] >= 4.0  # four workers, one full training
    if method.like:
        return  # one run takes many seconds
    assert first["trace"] == run_cell(cell)["trace"]
    assert first["trace"] != run_cell(Cell("hold", name, cell.setting, True, 6))["trace"]
