"""Trials of several workers on a real Ray: what ends with them, and how they fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT
from support.specs import make_config, make_spec

from search.errors import BadInput
from search.execution.local import OwnRay, concurrency
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import events, read_book
from trainable.data.loading import load_data

CODE = """
import os, time
from pathlib import Path
import torch

class Net(torch.nn.Module):  # notes its process, and does what the file beside it says
    def __init__(self, shape):
        super().__init__()
        self.net = torch.nn.Conv2d(1, 1, 3, padding=1)
        (Path(__file__).parent / f"pid-{os.getpid()}").touch()

    def forward(self, x, t):
        orders = Path(__file__).parent / "orders"
        if self.training and orders.exists() and len(x) == 5:  # the second worker of a batch of 9
            order = orders.read_text()
            if order == "code":
                raise ValueError("the second worker's own mistake")
            if order == "wait":
                time.sleep(3600)
        return self.net(x)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "gang_net.py").write_text(CODE)
    return folder


def pids(code: Path) -> set[int]:
    """The processes that have trained."""
    return {int(path.name.removeprefix("pid-")) for path in code.glob("pid-*")}


def wait_for(what: Callable[[], Any], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.ray
@pytest.mark.timeout(900)  # on a machine that is busy with more
def test_a_gang_fails_as_its_workers_do_and_holds_nothing_after(
    code: Path, tmp_path: Path
) -> None:
    command = [sys.executable, __file__, str(code), str(tmp_path)]  # Ray's token is a process's
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def one_gang_after_another(code: Path, tmp_path: Path) -> None:
    """Trials of two workers, without Tune: they end, fail, are lost, and are killed."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    from trainable.actor.workers import GangTrial, WorkerLost

    cpus = ray.cluster_resources()["CPU"]
    group = placement_group([{"CPU": 0.5}] * 2)
    config = make_config(
        {"type": "sgd", "lr": 1e-3},
        model={"type": "gang_net:Net"},
        batch_size=9,
        code=[str(code)],
    )

    def given(name: str) -> dict[str, Any]:
        trial = config.model_dump(mode="json")
        return {"trial": trial, "rungs": [], "folder": str(tmp_path / name)}

    class Trial(GangTrial):
        def setup(self, given: dict[str, Any]) -> None:
            data, need = [ray.put(load_data(config.dataset))], {"num_cpus": 0.5}
            super().setup(given, data=data, size=2, need=need)

    place = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    remote = ray.remote(Trial).options(num_cpus=0, scheduling_strategy=place)

    trial = remote.remote(config=given("0"))
    assert ray.get(trial.step.remote())["report"]["step"] == 4
    first = pids(code)
    assert len(first) == 2
    ray.get(trial.reset_config.remote(given("1")))  # the next trial, in the same processes
    assert ray.get(trial.step.remote())["report"]["step"] == 4 and pids(code) == first

    (code / "orders").write_text("code")
    result = ray.get(trial.step.remote())
    assert result["failure"] == "code" and "own mistake" in result["why"]
    wait_for(lambda: not any(map(alive, pids(code))))  # they and their memory are gone
    (code / "orders").unlink()
    ray.get(trial.reset_config.remote(given("2")))  # the third trial does not hang
    assert ray.get(trial.step.remote())["report"]["step"] == 4

    (code / "orders").write_text("wait")
    step = trial.step.remote()
    one, other = sorted(filter(alive, pids(code)))
    os.kill(one, signal.SIGKILL)  # like the machine's memory killer
    with pytest.raises(ray.exceptions.RayTaskError) as lost:
        ray.get(step)
    assert isinstance(lost.value.cause, WorkerLost)
    wait_for(lambda: not alive(other))

    again = remote.remote(config=given("3"))  # as Tune starts it again
    (code / "orders").unlink()
    assert ray.get(again.step.remote())["report"]["step"] == 4
    (code / "orders").write_text("wait")
    step = again.step.remote()
    ray.kill(again)  # as a trial is killed that hangs
    wait_for(lambda: not any(map(alive, pids(code))))
    remove_placement_group(group)
    wait_for(lambda: ray.available_resources().get("CPU") == cpus)


SPEC = """
name: gang
trial:
  model: {type: gang_net:Net}
  batch_size: 9
  steps: 400
  report_every: 50
space:
  optimizer: {sgd: {lr: {low: 1e-3, high: 1e-1, log: true}}}
budget: {trials: 4}
resources: {cpu: 0.5, workers: 2, concurrent: 1}
code: [code]
"""


@pytest.mark.ray
@pytest.mark.timeout(900)  # on a machine that is busy with more
@pytest.mark.slow
def test_a_search_whose_trials_have_two_workers_survives_the_loss_of_one(
    code: Path, home: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    environment = {**os.environ, "DIFFSWEEP_HOME": str(home)}
    command = [sys.executable, "-m", "cluster.cli"]
    with (tmp_path / "output").open("w+") as output:
        run = subprocess.Popen(
            [*command, "run", str(spec)], env=environment, stdout=output, stderr=output
        )
        wait_for(lambda: len(pids(code)) > 2 or run.poll() is not None)
        driver = run.pid
        os.kill(max(filter(alive, pids(code) - {driver})), signal.SIGKILL)
        assert run.wait(600) == 0, (tmp_path / "output").read_text()
    (folder,) = Home(home).searches()
    check_search(folder)
    assert len(pids(code)) >= 5  # the driver, two workers, and two in their place
    assert not any(map(alive, pids(code)))
    mark = f"DIFFSWEEP_HOME={home}".encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/environ") if mark in contents(p)]

    alone = subprocess.run(  # the number of workers is none of the config's
        [*command, "train", str(folder.path / "best" / "config.yaml"), "-o", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    metrics = json.loads((folder.path / "best" / "metrics.json").read_text())
    assert json.loads(alone.stdout)["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-4)


def check_search(folder: Folder) -> None:
    book = read_book(folder.history)
    assert book.state == "complete" and sorted(book.trials) == [0, 1, 2, 3]
    assert {trial.state for trial in book.trials.values()} <= {"complete", "pruned"}
    begun = [event["trial"] for event in events(folder.history) if event["event"] == "begin"]
    assert set(begun) == {0, 1, 2, 3}
    for trial in book.trials.values():  # one after the other was stopped; none reported twice
        clock = [report["samples"] for report in trial.reports]
        assert clock == sorted(set(clock)) and clock


def contents(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:  # not ours, or gone in the meantime
        return []


def test_what_one_has_met_counts_more_than_that_others_miss_it() -> None:
    from trainable.actor.workers import LOST, WorkerLost, verdict

    left = {"failure": LOST, "why": "connection closed"}
    told = {"failure": "oom", "why": "out of memory"}
    assert verdict([left, told, left]) == told
    with pytest.raises(WorkerLost, match="connection closed"):
        verdict([left, left])


@pytest.mark.parametrize(
    ("resources", "gpus", "fits"),
    [
        ({"workers": 2}, 0, 4),
        ({"workers": 3}, 0, 2),
        ({"workers": 2, "cpu": 2}, 0, 2),
        ({"workers": 2, "gpu": 1}, 4, 2),
        ({"workers": 2, "gpu": 2, "cpu": 0.5}, 4, 1),
        ({"gpu": 0.5}, 2, 4),
        ({"workers": 2, "concurrent": 1}, 0, 1),
    ],
)
def test_a_machine_of_eight_cpus_runs_so_many_gangs(
    resources: dict[str, Any], gpus: int, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.execution.local.count_cpus", lambda: 8)
    monkeypatch.setattr("search.execution.local.count_gpus", lambda: gpus)
    assert concurrency(make_spec(resources=resources)) == fits


def test_a_gang_that_the_machine_can_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.execution.local.count_cpus", lambda: 8)
    with pytest.raises(BadInput) as refused:
        concurrency(make_spec(resources={"workers": 5, "cpu": 2}))
    assert refused.value.args == (
        "resources.cpu: a trial needs 10 CPUs (5 workers), this machine has 8; "
        "lower resources.cpu or resources.workers",
    )


if __name__ == "__main__":
    with OwnRay(0) as started:
        started.wait()
        one_gang_after_another(*map(Path, sys.argv[1:]))
