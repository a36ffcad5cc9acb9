"""Kill the driver of a search again and again, and see that nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.history.book import ENDED
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import events, read_book
from trainable.metrics import REPORT_METRICS

TRIALS = 8
SPEC = """
name: killed
trial:
  model: {type: unet, channels: 8, multipliers: [1], attention: false}
  batch_size: 16
  steps: 64
  report_every: 8
  validation_examples: 16
space:
  optimizer: [adam, sgd]
budget: {trials: 8}
"""
LONGEST = 240  # seconds that one uninterrupted leg may take on a busy machine


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cluster.cli", *arguments]


def begin(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    log = (home.parent / "output.txt").open("ab")
    env = {**os.environ, "DIFFSWEEP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with log:
        return subprocess.Popen(command(*arguments), stdout=log, stderr=log, env=env)


def output(home: Path) -> str:
    return (home.parent / "output.txt").read_text()[-4000:]


def search_with_kills(home: Path, kills: int, seed: int) -> Folder:
    """Run a search whose driver is killed `kills` times at random moments; return its folder."""
    draw = random.Random(seed)
    spec = home.parent / "spec.yaml"
    spec.write_text(SPEC)
    process = begin(home, "run", str(spec))
    for _ in range(kills):
        wait_for_history(home, process)
        began = time.monotonic()
        while time.monotonic() - began < draw.uniform(0.0, 12.0) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (folder,) = Home(home).searches()
        process = begin(home, "resume", folder.id)
    assert process.wait(LONGEST) == 0, output(home)
    (folder,) = Home(home).searches()
    return folder


def wait_for_history(home: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the driver has written its first word: before that there is no search."""
    deadline = time.monotonic() + LONGEST
    while not list(Home(home).searches()):
        assert process.poll() is None and time.monotonic() < deadline, output(home)
        time.sleep(0.02)


def check_nothing_lost(home: Path, folder: Folder, tracking: str | None = None) -> None:
    """The invariants of a search that ended, whatever happened on the way."""
    book = read_book(folder.history)
    assert book.state == "complete"
    assert sorted(book.trials) == list(range(TRIALS))
    asked = Counter(e["trial"] for e in events(folder.history) if e["event"] == "ask")
    assert set(asked.values()) == {1}
    for trial in book.trials.values():
        assert trial.state in ENDED and not trial.again, trial
        clock = [report["samples"] for report in trial.reports]
        assert clock == sorted(set(clock)), f"trial {trial.number} reported {clock}"
    check_mlflow(home, folder, tracking)
    check_study(folder)


def check_mlflow(
    home: Path, folder: Folder, uri: str | None = None, experiment: str = "killed"
) -> None:
    """One run for each trial and one for the search, every metric once, all closed."""
    book, client = read_book(folder.history), MlflowClient(uri or f"sqlite:///{home}/mlflow.db")
    (found,) = [e for e in client.search_experiments() if e.name == experiment]
    runs = client.search_runs([found.experiment_id], max_results=1000)
    children = {
        int(r.data.tags["diffsweep.trial"]): r for r in runs if "diffsweep.trial" in r.data.tags
    }
    assert len(runs) == len(book.trials) + 1 and sorted(children) == sorted(book.trials)
    assert all(run.info.status != "RUNNING" for run in runs)
    for number, run in children.items():
        trial = book.trials[number]
        assert run.data.tags["diffsweep.state"] == trial.state
        for metric in REPORT_METRICS:
            recorded = client.get_metric_history(run.info.run_id, metric)
            expected = [(r["step"], r[metric]) for r in trial.reports if metric in r]
            assert sorted((m.step, m.value) for m in recorded) == expected


def check_study(folder: Folder) -> None:
    """Nothing is left open in the Optuna study, or in those of the optimizers."""
    storage = JournalStorage(JournalFileBackend(str(folder.study)))
    names = optuna.get_all_study_names(storage)
    assert names and all(name.split("/")[0] == folder.id for name in names)
    for name in names:
        study = optuna.load_study(study_name=name, storage=storage)
        told: dict[str, Any] = Counter(trial.state.name for trial in study.get_trials())
        assert set(told) <= {"COMPLETE", "PRUNED"}, json.dumps(told)
