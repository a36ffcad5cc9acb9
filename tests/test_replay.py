"""Replays: interpolation by hand, and whole searches in virtual time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli import cli
from search.curves import Curves, interpolate, read_csv
from search.errors import BadInput
from search.replay import interquartile_mean, interval, replay, simulate

CSV = Path(__file__).parent / "bench" / "digits8.csv"
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
