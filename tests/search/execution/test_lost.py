"""A trial whose host has no memory left: told as such, not tried again, no end to the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from ray.air.execution._internal import RayActorManager
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from support.engines import start
from support.specs import make_spec

from search.errors import SearchFailed
from search.execution import tuning
from search.execution.lost import Actors, ProcessLost, without_memory
from search.history.home import Home
from search.history.log import read_book

REASON = "Memory usage 7591874560B exceeded threshold of 7582953472B"
SAID = f"1 worker(s) were killed due to the node running low on memory.\nOOM kill reason: {REASON}"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError(SAID), ProcessLost),
        (ActorDiedError(), ActorDiedError),  # what Tune knows stays what it is
        (ValueError("ours"), ValueError),  # and so does what is no matter of processes
    ],
)
def test_tune_sees_the_loss_of_one_process_and_no_end_of_all(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    seen: list[Exception] = []
    monkeypatch.setattr(
        RayActorManager, "_actor_task_failed", lambda self, task, error: seen.append(error)
    )
    Actors.__new__(Actors)._actor_task_failed(None, error)
    assert [type(one) for one in seen] == [kind] and str(seen[0]) == str(error)
    assert issubclass(ProcessLost, RayActorError)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"Failure # 1\n{SAID}", REASON),
        (f"Failure # 1\nkilled\nFailure # 2\n{SAID}", REASON),
        (f"Failure # 1\n{SAID}\nFailure # 2\nkilled\n", None),  # the newest counts
        (None, None),
    ],
)
def test_what_the_memory_monitor_says_is_told_with_its_numbers(
    tmp_path: Path, text: str | None, told: str | None
) -> None:
    file = tmp_path / "error.txt"
    if text is not None:
        file.write_text(text)
    trial: Any = SimpleNamespace(error_file=str(file) if text is not None else None)
    why = without_memory(trial)
    assert (why is None) if told is None else (why or "").endswith(told)


def test_an_end_by_ray_is_one_line_and_its_traceback_is_in_the_log(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, folder = make_spec(), Home(home).new("tiny")
    engine = start(spec)

    def fit() -> None:
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr(tuning, "trainable", lambda *_: type("Trial", (), {}))
    monkeypatch.setattr(tuning.tune, "Tuner", lambda *_, **__: SimpleNamespace(fit=fit))
    tuning.tune_trials(spec, engine, folder, None, 1, {})  # type: ignore[arg-type]
    assert isinstance(engine.error, SearchFailed)
    assert str(engine.error).startswith(f"Ray ended {folder.id}: no such luck (more in")
    assert "RuntimeError: no such luck" in folder.log.read_text()


HUNGRY = """
import os, time
import torch
from torch import nn

KEPT = []

class Net(nn.Module):
    def __init__(self, hungry: bool = True) -> None:
        super().__init__()
        self.conv, self.calls = nn.Conv2d(1, 1, 3, padding=1), 0

    def forward(self, x, t):
        self.calls += 1
        while "RAY_JOB_ID" in os.environ and self.calls > 8:  # in a trial, not where it is tried
            KEPT.append(torch.ones(32 << 20))  # 128 MB
            time.sleep(0.05)
        return self.conv(x)
"""
SPEC = """
name: hungry
code: [modules]
trial: {dataset: {type: digits}, model: {type: "hungrypkg.nets:Net"}, batch_size: 8, steps: 16,
        report_every: 4, validation_examples: 16, quality: null}
space: {optimizer: {adam: {}}}
baselines: none
budget: {trials: 1}
resources: {concurrent: 1}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_rays_memory_monitor_ends_one_trial_for_good(tmp_path: Path, home: Path) -> None:
    package = tmp_path / "modules/hungrypkg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(HUNGRY)
    (tmp_path / "spec.yaml").write_text(SPEC)
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + (3 << 30)) / memory.total
    env = {"RAY_memory_usage_threshold": f"{limit:.3f}", "RAY_memory_monitor_refresh_ms": "50"}
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", "run", str(tmp_path / "spec.yaml")],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    (search,) = Home(home).searches()
    (trial,) = read_book(search.history).trials.values()
    assert trial.state == "failed" and (trial.why or "").startswith("oom: the host ran out")
    begun = [json.loads(line)["event"] for line in search.history.read_text().splitlines()]
    assert begun.count("begin") == 1  # and is not tried again
