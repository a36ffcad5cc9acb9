"""A search on a real cluster, through the commands: from here, and from another laptop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from ray.core.generated import (
    gcs_service_pb2,
    gcs_service_pb2_grpc,
    ray_client_pb2,
    ray_client_pb2_grpc,
)
from support.clusters import SPEC, Laptop, another, family, until, up

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

# recognisable secrets, in every place where people have some
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEYID",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",
    "AWS_SESSION_TOKEN": "planted-aws-session",
    "MLFLOW_TRACKING_USERNAME": "someone",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "MLFLOW_TRACKING_URI": "postgresql://someone:planted-db-password@127.0.0.1:1/nowhere",
    "RAY_AUTH_TOKEN": "planted-ray-token-of-another-cluster",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A machine with a cluster that `up` started, in an environment full of secrets."""
    with up(Laptop(tmp_path_factory.mktemp("cluster"), **PLANTED)) as laptop:
        yield laptop


@pytest.fixture(scope="module")
def other(here: Laptop) -> Laptop:
    """Another laptop, which has nothing but the address and the token."""
    return another(here)


@pytest.fixture(scope="module")
def search(here: Laptop) -> dict[str, Any]:
    """A search that was submitted and has ended."""
    started: dict[str, Any] = here.get("submit", here.spec())
    assert here.wait(started["id"], "complete", "failed")["state"] == "complete"
    return started


def test_nothing_of_it_listens_outside_loopback(here: Laptop, search: dict[str, Any]) -> None:
    listening = [ip for process in family(here) for ip in listens_on(process)]
    assert len(listening) > 8  # GCS, raylet, agents, dashboard, metrics, MLflow, ...
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def listens_on(process: psutil.Process) -> list[str]:
    try:
        found = process.net_connections("inet")
    except psutil.NoSuchProcess:  # it ended meanwhile
        return []
    return [one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN]


def test_up_again_changes_nothing(here: Laptop) -> None:
    before = (here.home / "cluster.json").read_text()
    here.say("up")
    assert (here.home / "cluster.json").read_text() == before


def test_status_without_an_id_shows_cluster_and_services(here: Laptop) -> None:
    found = here.get("status")
    assert found["cluster"]["state"] == "up" and found["cluster"]["nodes"] == 1
    assert found["cluster"]["cpus"]["of"] == os.cpu_count()
    assert {row["service"]: row["state"] for row in found["services"]} == {
        "ray": "up",
        "mlflow": "up",
    }


def test_the_files_that_let_people_in_are_private(here: Laptop) -> None:
    local = json.loads((here.home / "cluster.json").read_text())
    for path in (here.home / "cluster.json", Path(local["token"])):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert not (here.folder / ".ray").exists()  # where Ray would leave one for all to read


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/version", "/nodes?view=summary", "/metrics"])
def test_without_the_token_there_is_nothing_but_401_and_403(here: Laptop, path: str) -> None:
    url = json.loads((here.home / "cluster.json").read_text())["ray"] + path
    assert refusal(urllib.request.Request(url)) == 401
    assert refusal(urllib.request.Request(url, headers={"Authorization": "Bearer x"})) == 403


def test_mlflow_answers_to_its_own_name_alone(here: Laptop, search: dict[str, Any]) -> None:
    url = f"{search['mlflow']}/api/2.0/mlflow/experiments/search?max_results=1"
    assert refusal(urllib.request.Request(url, headers={"Host": "evil.example"})) == 403
    urllib.request.urlopen(url).close()


def refusal(request: urllib.request.Request) -> int | None:
    """The code with which a request is refused; None if it is not."""
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        return error.code
    return None


def test_rays_other_doors_want_the_token_too(here: Laptop, other: Laptop) -> None:
    """The state of the cluster, and Ray's client, whose own library only says "timeout"."""
    right = [("authorization", f"Bearer {other.environment['RAY_AUTH_TOKEN']}")]
    with door(here, "port") as gcs, door(here, "ray-client-server-port") as client:
        nodes = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(gcs).GetAllNodeInfo
        state = partial(nodes, gcs_service_pb2.GetAllNodeInfoRequest(), timeout=30)
        info = ray_client_pb2_grpc.RayletDriverStub(client).ListNamedActors
        named = partial(info, ray_client_pb2.ClientListNamedActorsRequest(), timeout=30)
        for call in (state, named):
            for given in ([], [("authorization", "Bearer wrong")]):
                with pytest.raises(grpc.RpcError) as refused:
                    call(metadata=given)
                assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED, refused.value
        assert len(state(metadata=right).node_info_list) == 1


def door(laptop: Laptop, flag: str) -> grpc.Channel:
    """A connection to a port that Ray's head was started with."""
    head = json.loads((laptop.home / "cluster.json").read_text())["services"]["ray"]["pid"]
    words = psutil.Process(head).cmdline()
    (port,) = (word.partition("=")[2] for word in words if word.startswith(f"--{flag}="))
    return grpc.insecure_channel(f"127.0.0.1:{port}")


def test_commands_without_the_right_token_say_what_is_wanted(here: Laptop, other: Laptop) -> None:
    url = other.environment["RAY_ADDRESS"]
    for token, words in (("", "needs a token"), ("wrong", "refuses this token")):
        stranger = Laptop(here.folder / "stranger", RAY_AUTH_TOKEN=token)
        done = stranger.run("ls", "--cluster", url)
        assert done.returncode == 2 and words in done.stderr and "RAY_AUTH_TOKEN" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_submit_tells_id_cluster_and_mlflow(here: Laptop, search: dict[str, Any]) -> None:
    local = json.loads((here.home / "cluster.json").read_text())
    assert re.fullmatch(r"tiny-[0-9a-f]{6}", search["id"])
    assert (search["cluster"], search["mlflow"]) == (local["ray"], local["mlflow"])


def test_another_laptop_sees_it_with_the_token_alone(
    here: Laptop, other: Laptop, search: dict[str, Any]
) -> None:
    id = search["id"]
    assert [row["id"] for row in other.get("ls")] == [id]
    assert other.get("status", id) == here.get("status", id)
    assert other.get("trials", id) == here.get("trials", id)
    log = other.say("logs", id)
    assert "did not take" not in log, "MLflow has its report and its model"
    assert "adam-0 step 40: val_loss" in log and f"search {id} is complete" in log
    mine = other.say("logs", id, "0")
    assert "takes this trial" in mine and "adam-0 is complete" in mine and "sgd-1" not in mine
    assert not list(other.home.glob("*")), "asking leaves nothing behind"
    report = other.get("report", id)
    assert report["search"] == id
    assert (other.home / id / "report" / "report.html").stat().st_size > 10_000


def test_an_export_is_brought_to_the_laptop_and_trains_there(
    other: Laptop, search: dict[str, Any]
) -> None:
    target = other.folder / "best"
    exported = other.get("export", search["id"], "--to", str(target))
    assert exported["to"] == str(target)
    metrics = json.loads((target / "metrics.json").read_text())
    assert other.get("train", str(target / "config.yaml"))["val_loss"] == metrics["val_loss"]


def test_resume_and_stop_from_another_laptop(other: Laptop, search: dict[str, Any]) -> None:
    id = search["id"]
    assert "is not running, it is complete" in other.say("stop", id)
    again = other.get("resume", id, "--trials", "1", "--wait")
    assert again["job"] == f"{id}-r1"
    found = other.get("status", id)
    assert found["state"] == "complete" and sum(found["trials"].values()) == 4
    log = other.say("logs", id)
    assert log.index(f"job {id}") < log.index(f"job {id}-r1")


OWN = """\
name: {name}
code: [modules]
trial:
  dataset: {{type: "mine:load"}}
  model: {{type: "mine:Net"}}
  batch_size: 8
  steps: 40
  report_every: 10
  quality: null
space: {{optimizer: [sgd]}}
budget: {{trials: 2}}
resources: {{concurrent: 1}}
"""
MODULE = """\
import numpy as np
import torch

def load():
    return np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)

class Net(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        print("this is {name}", flush=True)

    def forward(self, x, t):
        return self.layer(x)
"""


@pytest.mark.slow
def test_two_searches_side_by_side_have_their_own_code(here: Laptop, other: Laptop) -> None:
    ids = {}
    for name in ("left", "right"):
        spec = here.spec(OWN.format(name=name), f"{name}/spec.yaml")
        module = here.folder / name / "modules" / "mine.py"
        module.parent.mkdir()
        module.write_text(MODULE.replace("{name}", name))
        ids[name] = here.get("submit", spec)["id"]
        shutil.rmtree(module.parent)  # the cluster has its own
    for name, id in ids.items():
        assert here.wait(id, "complete", "failed")["state"] == "complete", here.say("logs", id)
        said = [line for line in here.say("logs", id, "1").splitlines() if "this is" in line]
        assert said and all(name in line for line in said)
    # resumed from elsewhere, and exported with its code
    other.say("resume", ids["left"], "--trials", "1", "--wait")
    target = other.folder / "left"
    other.say("export", ids["left"], "--to", str(target))
    metrics = json.loads((target / "metrics.json").read_text())
    assert other.get("train", str(target / "config.yaml"))["val_loss"] == metrics["val_loss"]


def test_what_is_wrong_is_one_line_before_anything_begins(here: Laptop) -> None:
    for setting, words in (
        ("resources.cpu=1000", "a trial needs 1000 CPUs; the largest node (127.0.0.1)"),
        ("tracking.uri=postgresql://u:planted-spec-password@127.0.0.1:1/x", "password"),
        ("tracking.uri=http://127.0.0.1:1", "does not answer"),
    ):
        done = here.run("submit", here.spec(), "--set", setting)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert "planted-spec-password" not in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.strip()]) == 1, done.stderr


def test_no_secret_is_anywhere(here: Laptop, other: Laptop, search: dict[str, Any]) -> None:
    token = other.environment["RAY_AUTH_TOKEN"]
    secrets = [value for key, value in PLANTED.items() if key not in HARMLESS] + [token]
    secrets.append("planted-db-password")
    url, authorized = search["cluster"], {"Authorization": f"Bearer {token}"}
    texts = {
        path: urllib.request.urlopen(
            urllib.request.Request(url + path, headers=authorized), timeout=10
        ).read()
        for path in (
            "/api/jobs/",
            f"/api/jobs/{search['id']}/logs",
            "/api/v0/actors?detail=True&limit=1000",
            "/api/v0/workers?detail=True&limit=1000",
            "/api/v0/tasks?detail=True&limit=1000",
            "/api/v0/runtime_envs?detail=True&limit=1000",
        )
    }
    texts["ps"] = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
    token_file = Path(json.loads((here.home / "cluster.json").read_text())["token"])
    temporary = Path(json.loads((here.home / "cluster.json").read_text())["temporary"])
    for folder in (here.home, other.folder, temporary):
        for path in folder.rglob("*"):
            if path.is_file() and path != token_file:
                texts[str(path)] = path.read_bytes()
    assert len(texts) > 30
    found = [
        (secret, where)
        for where, text in texts.items()
        for secret in secrets
        if secret.encode() in text
    ]
    assert not found


HARMLESS = ("MLFLOW_TRACKING_USERNAME",)


@pytest.mark.slow
def test_down_and_up_again_lose_nothing(here: Laptop) -> None:
    long = SPEC.replace("steps: 40", "steps: 100000").replace(
        "report_every: 10", "report_every: 500"
    )
    id = here.get("submit", here.spec(long))["id"]
    both = os.cpu_count() or 1
    until(lambda: here.get("status", id), lambda found: found["trials"].get("running") == both)
    second = here.get("submit", here.spec())["id"]
    waits = until(lambda: here.get("status", second), lambda found: "held by" in found["why"])
    assert waits["state"] == "pending" and f"held by {id} ({both} trials)" in waits["why"]
    third = here.get("submit", here.spec())["id"]
    behind = lambda found: f"behind {second}" in found["why"]  # noqa: E731
    until(lambda: here.get("status", third), behind)
    for waiting in (third, second):
        assert "ended before it began" in here.say("cancel", waiting)
        assert here.wait(waiting, "cancelled")["trials"] == {}
    assert f"{id} is interrupted" in here.say("down")
    assert here.get("status", id)["state"] == "interrupted"
    assert {row["state"] for row in here.get("status")["services"]} == {"down"}
    assert here.run("resume", id).returncode == 2  # it was submitted, and there is no cluster
    here.say("up")
    assert here.get("resume", id)["job"] == f"{id}-r1"
    until(lambda: here.get("status", id), lambda found: found["state"] == "running")
    assert "cancelled" in here.say("cancel", id)
    found = here.wait(id, "cancelled")
    assert set(found["trials"]) <= {"cancelled", "paused"}
