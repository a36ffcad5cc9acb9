"""The main job, small: a real search through the real command, and all that it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from support.paths import ROOT
from support.servers import wait_until

from search.history.log import read_book
from trainable.metrics import REPORT_METRICS

pytestmark = pytest.mark.ray

TRIALS = 6
SPEC = f"""\
name: tiny
trial:
  model: {{type: unet, channels: 8, multipliers: [1], attention: false}}
  batch_size: 8
  steps: 20
  report_every: 5
space:
  optimizer:
    adam: {{}}
    sgd: {{lr: {{low: 1e-3, high: 1e-1, log: true}}}}
budget: {{trials: {TRIALS}}}
"""
ENDS = {"complete", "pruned", "diverged"}


class Search(NamedTuple):
    """A search that ran, and the environment of its commands."""

    status: dict[str, Any]
    trials: list[dict[str, Any]]
    stderr: str
    home: Path
    environment: dict[str, str]

    @property
    def id(self) -> str:
        name: str = self.status["id"]
        return name

    def command(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        done = diffsweep(self.environment, *arguments, "-o", "json")
        return json.loads(done.stdout)


def diffsweep(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    folder = tmp_path_factory.mktemp("main")
    (folder / "spec.yaml").write_text(SPEC)
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLFLOW_TRACKING", "DIFFSWEEP_", "RAY_ADDRESS", "PYTEST_"))
    } | {"DIFFSWEEP_HOME": str(folder / "home")}
    done = diffsweep(environment, "run", str(folder / "spec.yaml"), "-o", "json")
    status = json.loads(done.stdout)
    trials = json.loads(diffsweep(environment, "trials", status["id"], "-o", "json").stdout)
    return Search(status, trials, done.stderr, folder / "home", environment)


@pytest.fixture(scope="module")
def runs(search: Search) -> list[Run]:
    client = MlflowClient(f"sqlite:///{search.home}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return [client.get_run(run.info.run_id) for run in found]


def test_it_says_nothing_but_how_far_it_is(search: Search) -> None:
    noise = [line for line in search.stderr.splitlines() if not line.startswith("tiny-")]
    assert noise in ([], ["diffsweep  starting Ray"])
    assert "warn" not in search.stderr.lower()


def test_it_leaves_no_process_behind(search: Search) -> None:
    mark = f"DIFFSWEEP_HOME={search.home}".encode()  # Ray's processes have our environment

    def left() -> list[bytes]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # not ours, or gone in the meantime
                if mark in path.read_bytes().split(b"\0"):
                    found.append((path.parent / "cmdline").read_bytes())
        return found

    wait_until(lambda: not left())  # a worker sees a moment later that its Ray has ended


def test_status_tells_state_trials_optimizers_best_and_budget(search: Search) -> None:
    status = search.command("status", search.id)
    assert status == search.status
    assert status["state"] == "complete"
    assert set(status["trials"]) <= ENDS and sum(status["trials"].values()) == TRIALS
    assert set(status["optimizers"]) == {"adam", "sgd"}
    assert sum(row["trials"] for row in status["optimizers"].values()) == TRIALS
    assert status["budget"]["trials"] == {"used": TRIALS, "of": TRIALS}
    tried = [trial["val_loss"] for trial in complete(search)]
    assert status["best"]["val_loss"] == min(tried)


def test_ls_lists_it(search: Search) -> None:
    (row,) = search.command("ls")
    assert set(row) >= {"id", "state", "trials", "best", "started"}
    assert (row["id"], row["state"], row["trials"]) == (search.id, "complete", TRIALS)
    assert row["best"] == search.status["best"]


def test_trials_tell_what_each_did(search: Search) -> None:
    trials = search.trials
    assert [trial["trial"] for trial in trials] == list(range(TRIALS))
    for trial in trials:
        keys = {"trial", "optimizer", "state", "stage", "val_loss", "step", "config", "run_id"}
        assert set(trial) >= keys
        assert trial["config"]["optimizer"]["type"] == trial["optimizer"]
        assert trial["stage"] == "search"
    assert all(trial["step"] == 20 for trial in complete(search))
    first = trials[0]  # the "before": Adam at its published default, always in full
    assert (first["optimizer"], first["config"]["optimizer"]["lr"]) == ("adam", 1e-4)
    assert first["state"] == "complete"


def test_mlflow_holds_one_parent_and_one_child_for_each_trial(
    search: Search, runs: list[Run]
) -> None:
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.info.run_id: run for run in runs if run is not parent}
    assert parent.info.run_name == search.id
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["diffsweep.state"] == "complete"
    assert len(children) == TRIALS
    for trial in search.trials:
        run = children[trial["run_id"]]
        tags = run.data.tags
        assert run.info.run_name == f"{trial['optimizer']}-{trial['trial']}"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["diffsweep.state"] == trial["state"]
        assert tags["diffsweep.search"] == search.id
        assert run.info.status == ("FAILED" if trial["state"] == "diverged" else "FINISHED")
        assert run.data.metrics["val_loss"] == trial["val_loss"]
        assert run.data.metrics["samples"] == trial["step"] * 8
        assert run.data.params["optimizer"] == trial["optimizer"]


def test_mlflow_has_every_metric_once_at_its_step(search: Search) -> None:
    client = MlflowClient(f"sqlite:///{search.home}/mlflow.db")
    book = read_book(search.home / search.id / "history.jsonl")
    for trial in search.trials:
        reports = book.trials[trial["trial"]].reports
        if trial["state"] == "complete":  # every 5 steps, and at the rungs
            assert {report["step"] for report in reports} >= {5, 10, 15, 20}
        for name in REPORT_METRICS:
            history = client.get_metric_history(trial["run_id"], name)
            points = [(point.step, point.value) for point in history]
            # the test part is measured for confirm trials alone
            assert all((name in report) != name.startswith("test_loss") for report in reports)
            assert points == [(r["step"], r[name]) for r in reports if name in r], name


def test_nothing_is_left_running(search: Search, runs: list[Run]) -> None:
    assert "RUNNING" not in [run.info.status for run in runs]
    journal = JournalFileBackend(str(search.home / search.id / "study.journal"))
    study = optuna.load_study(study_name=search.id, storage=JournalStorage(journal))
    states = [trial.state for trial in study.get_trials() if "diffsweep.trial" in trial.user_attrs]
    assert not set(states) & {TrialState.RUNNING, TrialState.WAITING}
    assert states.count(TrialState.COMPLETE) == search.status["trials"]["complete"]


def test_training_the_exported_config_gives_the_exported_loss(
    search: Search, tmp_path: Path
) -> None:
    exported = search.command("export", search.id, "--to", str(tmp_path / "best"))
    assert exported["trial"] == search.status["best"]["trial"]
    metrics = json.loads((tmp_path / "best" / "metrics.json").read_text())
    assert metrics["val_loss"] == search.status["best"]["val_loss"]
    again = search.command("train", str(tmp_path / "best" / "config.yaml"))
    assert again["val_loss"] == metrics["val_loss"]
    assert again["step"] == 20


def test_run_leaves_the_export_of_its_best(search: Search) -> None:
    names = {path.name for path in (search.home / search.id / "best").iterdir()}
    assert {"config.yaml", "model.safetensors", "metrics.json", "README.md"} <= names


def test_what_a_driver_killed_at_its_very_end_left_undone_is_done(search: Search) -> None:
    folder = search.home / search.id
    content = (folder / "best" / "metrics.json").read_text()
    shutil.rmtree(folder / "best")
    shutil.rmtree(folder / "report")
    (folder / "study.journal").unlink()
    search.command("resume", search.id)
    assert (folder / "best" / "metrics.json").read_text() == content
    assert (folder / "report" / "report.html").exists() and (folder / "study.journal").exists()


def complete(search: Search) -> list[dict[str, Any]]:
    return [trial for trial in search.trials if trial["state"] == "complete"]
