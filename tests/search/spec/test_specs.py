"""The searches that come with diffsweep: each loads, and `check` shows what it will do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.paths import SPECS

from cluster import cli
from search.spec.loading import load_spec

PATHS = sorted(SPECS.glob("*.yaml"))


def test_the_main_job_is_among_them() -> None:
    assert SPECS / "digits.yaml" in PATHS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_checks_and_its_plan_adds_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_spec(path)
    monkeypatch.setattr(sys, "argv", ["diffsweep", "check", str(path), "-o", "json"])
    cli.main()
    plan = json.loads(capsys.readouterr().out)
    assert plan["spec"] == spec.model_dump(mode="json")
    steps = [rung["step"] for rung in plan["rungs"]]
    assert steps == sorted(set(steps)) and steps[-1] == spec.trial.steps
    assert plan["full_trainings"] <= spec.budget.trials == plan["without_early_stopping"]
    assert plan["baselines"] < spec.budget.trials


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_shown_as_a_tree_within_80_columns(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["diffsweep", "check", str(path)])
    cli.main()
    lines = capsys.readouterr().out.splitlines()
    for optimizer in load_spec(path).optimizers:
        assert any(line.endswith(f"── {optimizer}") for line in lines)
    assert max(map(len, lines)) <= 80
