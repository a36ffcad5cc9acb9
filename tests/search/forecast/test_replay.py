"""Replays: interpolation by hand, and whole searches in virtual time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.paths import BENCH

from cluster.cli import cli
from search.errors import BadInput
from search.forecast.curves import Curves, interpolate, read_csv, read_history
from search.forecast.replay import replay, simulate
from search.forecast.statistics import interquartile_mean, interval
from search.history.log import History

CSV = BENCH / "digits8.csv"
TWO_RATES = Curves({"adam": {1e-3: [(0.25, 0.8), (1.0, 0.4)], 1e-1: [(0.25, 0.6), (1.0, 0.2)]}})


def test_interpolation_is_linear_between_points_and_flat_outside() -> None:
    points = [(0.0, 1.0), (2.0, 3.0)]
    assert [interpolate(points, x) for x in (-1, 0, 1, 2, 9)] == [1, 1, 2, 3, 3]


def test_losses_are_interpolated_in_log_lr_and_log_share() -> None:
    def loss(lr: float, share: float) -> float:
        return TWO_RATES.loss({"optimizer": {"type": "adam", "lr": lr}}, share)

    assert loss(1e-2, 1.0) == pytest.approx(0.3)
    assert loss(1e-3, 0.5) == pytest.approx(0.6)  # half way from 1/4 to 1
    assert loss(1e-5, 0.1) == 0.8
    assert TWO_RATES.best == 0.2


def test_recorded_curves_are_read_at_one_setting_with_seeds_averaged() -> None:
    curves = read_csv(CSV)
    assert len(curves.by_optimizer) == 8
    muon = curves.by_optimizer["muon"]
    final = (0.171475721988827 + 0.1711425413377583 + 0.17229410214349627) / 3
    assert muon[3e-3][-1] == pytest.approx((1.0, final))
    assert curves.best == pytest.approx(final)


def test_without_early_stopping_compute_is_the_number_of_trials() -> None:
    curves = read_csv(CSV)
    spec = curves.spec(budget={"trials": 8}, scheduler={"type": "none"})
    outcome = simulate(spec, curves, workers=4)
    assert outcome.compute == 8.0 and outcome.kept


def test_promotion_spends_less_and_finds_the_best() -> None:
    curves = read_csv(CSV)
    outcomes = replay(curves.spec(budget={"trials": 40}), curves, workers=4, seeds=4)
    assert all(outcome.compute < 24 for outcome in outcomes)
    assert all(outcome.regret < 0.02 for outcome in outcomes)
    assert all(outcome.compute_to_1pct < math.inf for outcome in outcomes)


def test_a_replay_is_reproducible() -> None:
    curves = read_csv(CSV)
    spec = curves.spec(budget={"trials": 20})
    assert simulate(spec, curves, 4) == simulate(spec, curves, 4)


def test_means_and_intervals() -> None:
    assert interquartile_mean([0, 1, 2, 3, 4, 5, 6, 100]) == 3.5
    shown = interval([1.0, 2.0, 3.0, 4.0])
    assert shown["low"] <= shown["iqm"] == 2.5 <= shown["high"]
    assert interval([2.0, 2.0]) == {"iqm": 2.0, "low": 2.0, "high": 2.0}


def test_the_command_prints_the_contract() -> None:
    arguments = ["replay", str(CSV), "--seeds", "2", "--sampler", "random", "-o", "json"]
    result = CliRunner().invoke(cli, [*arguments, "--scheduler", "median"])
    content = json.loads(result.stdout)
    for key in ("compute_to_1pct", "regret", "kept"):
        assert set(content[key]) == {"iqm", "low", "high"}


def test_a_csv_that_lacks_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("optimizer,lr\nadam,0.1\n")
    with pytest.raises(BadInput, match="lacks the columns step, total_steps, val_ema"):
        read_csv(tmp_path / "a.csv")


HEADER = "optimizer,lr,step,total_steps,val_ema\n"
WHOLE = "adam,0.01,10,10,0.3\n"
FAULTY = {
    "adam,abc,1,10,0.5\n": ":2: lr: expected a number, got 'abc'",
    "adam,0,10,10,0.5\n": ":2: lr: expected a number above 0, got 0",
    "adam,0.1,0,10,0.5\n": ":2: step: expected a number above 0, got 0",
    "adam,0.1,5,0,0.5\n": ":2: total_steps: expected a number above 0, got 0",
    "adam,0.1,50,10,0.5\n": ":2: step: 50 is beyond total_steps, 10",
    "adam,0.1\n": ":2: step: the row has no value for it",
    "adam,0.1,2,10,0.01\n": ":2: step: the curve of adam at lr 0.1 ends at 20% of total_steps",
    "": "two learning rates or more, this has 1 of adam",
    "adam,0.1,10,10,nan\n": "two learning rates or more, this has 1 of adam",
}


@pytest.mark.parametrize("rows", FAULTY)
def test_a_fault_of_a_csv_is_a_line_that_says_where(tmp_path: Path, rows: str) -> None:
    (tmp_path / "a.csv").write_text(HEADER + rows + WHOLE)
    with pytest.raises(BadInput) as raised:
        read_csv(tmp_path / "a.csv")
    assert FAULTY[rows] in raised.value.faults[0]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sampler", "grid"], "grid needs lists of choices"),
        (["--sampler", "gp"], "gp can't search several optimizers together"),
        (["--set", "budget.wall_clock=5"], "recorded curves know no time"),
    ],
)
def test_a_replay_is_checked_as_a_spec_is(flags: list[str], told: str) -> None:
    result = CliRunner().invoke(cli, ["replay", str(CSV), "--seeds", "2", *flags])
    assert isinstance(result.exception, BadInput) and told in str(result.exception)


def test_a_recorded_search_brings_its_own_terms(tmp_path: Path) -> None:
    spec = {
        "budget": {"trials": 3, "wall_clock": None},
        "allocation": "equal",
        "scheduler": {"type": "median"},
        "trial": {"steps": 100, "batch_size": 8, "report_every": 10},
        "space": {"optimizer": {"adam": {}, "sgd": {}}, "warmup": {"value": 0.0}},
        "objective": {"metric": "val_loss", "mode": "min"},
    }
    history = History(tmp_path / "history.jsonl")
    history.write("start", search="a-000000", spec=spec, format=1)
    for number, (lr, warmup) in enumerate([(1e-3, 0.0), (1e-2, 0.05), (1e-2, 0.0)]):
        config = {"optimizer": {"type": "adam", "lr": lr}}
        chosen = {"optimizer": "adam", "adam.lr": lr, "warmup": warmup}
        ask = {"trial": number, "stage": "search", "chosen": chosen, "config": config}
        history.write("ask", baseline=False, **ask)
        for samples in (400, 800):
            metrics = {"samples": samples, "step": samples // 8, "val_loss": 0.1 * (number + 1)}
            history.write("report", trial=number, metrics=metrics)
        history.write("end", trial=number, state="complete", why=None, again=False)
    history.close()
    curves = read_history(tmp_path / "history.jsonl")
    assert curves.by_optimizer["adam"][1e-2][-1] == (1.0, 0.2)  # the better of two
    told = curves.interpolation()
    assert told["ignored"] == ["warmup"] and told["left_out"] == ["sgd"]
    replayed = curves.spec()
    assert replayed.allocation == "equal" and replayed.scheduler.type == "median"
    assert replayed.budget.trials == 3 and replayed.trial.steps == 100
