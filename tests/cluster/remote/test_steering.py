"""A submitted search as another laptop steers it, which has the cluster's address and token alone.

One search lies in the cluster's home, one in S3. Their trials wait at each step for a file, so
nothing here depends on how fast they are.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from support.clusters import TRIAL, Laptop, another, finish, until, up
from support.services import BUCKET, S3

from trainable.base.opening import open_storage

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

SPEC = (
    f"name: steered\ncode: [modules]\n{TRIAL}"
    + """\
space: {optimizer: {"gated:SGD": {lr: {low: 1e-3, high: 1e-1, log: true}}}}
scheduler: {type: none}
budget: {trials: 2}
resources: {concurrent: 2}
"""
)
GATED = """\
import time
from pathlib import Path
import torch

class SGD(torch.optim.SGD):
    def step(self, closure=None):
        while not Path({gate!r}).exists():
            time.sleep(0.1)
        super().step(closure)
"""


@pytest.fixture(scope="module")
def here(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A machine whose cluster may use S3, since that was in the environment of `up`."""
    with up(Laptop(tmp_path_factory.mktemp("steered"), **s3_server.environment)) as laptop:
        yield laptop


@pytest.fixture(scope="module")
def other(here: Laptop) -> Laptop:
    return another(here)


class Gate:
    """What all trials of a search wait for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def submit(self, laptop: Laptop, *arguments: str) -> dict[str, Any]:
        """Submit a search whose trials stand before this gate."""
        spec = laptop.spec(SPEC, f"{self.path.name}/spec.yaml")
        modules = Path(spec).parent / "modules"
        modules.mkdir(exist_ok=True)
        (modules / "gated.py").write_text(GATED.format(gate=str(self.path)))
        started: dict[str, Any] = laptop.get("submit", spec, *arguments)
        until(lambda: laptop.get("status", started["id"]), lambda s: s["trials"] == {"running": 2})
        return started

    def open(self) -> None:
        self.path.touch()


def counts(laptop: Laptop, id: str) -> dict[str, int]:
    found: dict[str, int] = laptop.get("status", id)["trials"]
    return found


def refused(laptop: Laptop, *arguments: str) -> str:
    """The one line that a command says which refuses."""
    done = laptop.run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def own_config(laptop: Laptop, id: str, **changes: Any) -> str:
    """A config file on a laptop: that of trial 1, with another optimizer."""
    config = laptop.get("trials", id)[1]["config"]
    config["optimizer"] |= changes
    path = laptop.folder / "own.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def runs_in_mlflow(uri: str, id: str) -> int:
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(experiments, f"tags.`diffsweep.search` = '{id}'"))


def test_kill_add_follow_confirm_and_remove(here: Laptop, other: Laptop, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    started = gate.submit(here)
    id = started["id"]
    following = [other.start("logs", id, "-f"), other.start("logs", id, "1", "-f")]

    assert f"{id}: has no trial 9" in refused(other, "kill", id, "9")
    assert "trial 0 is told to end" in other.say("kill", id, "0")
    until(lambda: counts(other, id), lambda found: found == {"running": 1, "cancelled": 1})

    assert "no.yaml: No such file" in refused(other, "add", id, "--config", "no.yaml")
    config = own_config(other, id, type="adam")
    said = refused(other, "add", id, "--config", config)
    assert said.startswith(f"{config}: optimizer adam is not searched")
    config = own_config(other, id, type="gated:SGD", lr=0.0123)
    assert "waits for a slot" in other.say("add", id, "--config", config)
    until(lambda: counts(other, id), lambda found: found == {"running": 2, "cancelled": 1})
    assert "its driver is running" in refused(other, "rm", id)

    gate.open()
    assert other.wait(id, "complete", "failed")["trials"] == {"complete": 2, "cancelled": 1}
    trials = other.get("trials", id)
    assert [trial["state"] for trial in trials] == ["cancelled", "complete", "complete"]
    assert trials[0]["step"] == 0 and trials[0]["why"] == "killed by the user"
    assert trials[2]["config"]["optimizer"]["lr"] == 0.0123
    whole, one = (finish(process) for process in following)
    check_followed(whole.stdout, f"search {id} is complete")
    assert "gated:SGD-0 is cancelled: killed by the user" in whole.stdout
    check_followed(one.stdout, "gated:SGD-1 is complete")
    assert "takes this trial" in one.stdout and "SGD-2" not in one.stdout

    again = other.get("confirm", id, "--per", "search", "--seeds", "2", "--wait")
    assert again["job"] == f"{id}-r1"
    confirmed = [trial for trial in other.get("trials", id) if trial["stage"] == "confirm"]
    assert [trial["state"] for trial in confirmed] == ["complete", "complete"]
    rows = other.get("report", id)["confirm"]
    assert [row["trial"] for row in rows] == [3, 4] and len({row["source"] for row in rows}) == 1
    check_removed(here, other, started)


def check_followed(text: str, last: str) -> None:
    """What was followed came to its end, each report once."""
    assert last in text
    reports = Counter(line.partition("  ")[2] for line in text.splitlines() if " step " in line)
    assert reports and set(reports.values()) == {1}


def check_removed(here: Laptop, other: Laptop, search: dict[str, Any]) -> None:
    """`rm` deletes the folder and the runs of a search, but only when it is told to in earnest."""
    id, runs = search["id"], runs_in_mlflow(search["mlflow"], search["id"])
    said = other.say("rm", id, "--dry-run")
    assert f"would delete {here.home / id}" in said and f"its {runs} runs in MLflow" in said
    assert id in [row["id"] for row in other.get("ls")] and (here.home / id).is_dir()
    assert runs_in_mlflow(search["mlflow"], id) == runs == 6  # three, two to confirm, the parent
    assert f"deleted {here.home / id}" in other.say("rm", id)
    assert not (here.home / id).exists() and runs_in_mlflow(search["mlflow"], id) == 0
    for laptop in (here, other):
        assert id not in [row["id"] for row in laptop.get("ls")]
        assert "no such search" in refused(laptop, "status", id)


def test_a_search_in_s3_goes_on_from_there_alone(
    here: Laptop, other: Laptop, s3: S3, tmp_path: Path
) -> None:
    uri = f"s3://{BUCKET}/{tmp_path.name}"
    gate = Gate(tmp_path / "gate")
    id = gate.submit(here, "--set", f"storage={uri}")["id"]
    assert "trial 0 is told to end" in other.say("kill", id, "0")  # by a request in S3
    until(lambda: counts(other, id), lambda found: found == {"running": 1, "cancelled": 1})
    gate.open()
    assert other.wait(id, "complete", "failed")["trials"] == {"complete": 1, "cancelled": 1}
    stored = open_storage(f"{uri}/{id}")
    parts = {"history", "trials", "code", "best", "report"}  # the last comes after the end
    until(
        lambda: {name.partition("/")[0] for name in stored.names()}, lambda found: found >= parts
    )

    before = other.get("trials", id)
    shutil.rmtree(here.home / id)
    assert other.get("resume", id, "--trials", "1", "--wait")["job"] == f"{id}-r1"
    *same, new = other.get("trials", id)
    assert same == before and new["state"] == "complete"
    assert runs_in_mlflow(here.get("status")["services"][1]["address"], id) == 4

    alone = Laptop(tmp_path / "alone", **s3.environment)  # without the cluster
    (row,) = alone.get("ls", "--storage", uri)
    assert (row["id"], row["state"], row["trials"]) == (id, "complete", 3)
    exported = alone.folder / "best"
    alone.say("export", id, "--storage", uri, "--to", str(exported))
    assert json.loads((exported / "metrics.json").read_text())["val_loss"] == min(
        trial["val_loss"] for trial in (*same, new) if trial["state"] == "complete"
    )
    assert f"deleted {uri}/{id}" in other.say("rm", id)
    assert stored.names() == []
