"""A search from a client on a cluster of several hosts, one of which loses its power."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, Lab, missing

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600  # seconds for what takes some on a busy machine
SPEC = """\
name: lab
code: [modules]
trial:
  dataset: {type: "mine:load"}
  model: {type: "mine:Net"}
  batch_size: 8
  steps: 600
  report_every: 20
  validation_examples: 16
  quality: null
space: {optimizer: [adam, sgd]}
scheduler: {type: none}
budget: {trials: 6}
"""
MODULE = """\
import time
import numpy as np
import torch

def load():
    return np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)

class Net(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x, t):
        time.sleep(0.02)
        return self.layer(x)
"""
pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(3600),
]


class Cluster:
    """A head without trials, two workers, MLflow, and a client with the token alone."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder, self.storage = folder, folder / "shared"
        self.storage.mkdir()
        self.token = folder / "token"
        self.token.write_text("0123456789abcdef" * 4)
        self.token.chmod(0o600)
        self.head, self.client = lab.host("head"), lab.host("client")
        self.workers = {name: lab.host(name) for name in ("w1", "w2")}
        mlflow = f"http://{self.head.ip}:5000"
        store = f"sqlite:///{folder}/mlflow.db"
        artifacts = f"--artifacts-destination={folder}/artifacts"
        server = ("mlflow", "server", "--workers", "1", "--host", self.head.ip, artifacts)
        hosts = f"--allowed-hosts={self.head.ip}:5000"
        self.head.start(
            *(sys.executable, "-m", *server, hosts),
            MLFLOW_BACKEND_STORE_URI=store,
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "MLFLOW_TRACKING_URI": mlflow,
        }
        address = ("--port=6379", f"--dashboard-host={self.head.ip}", "--num-cpus=0")
        self.ray(self.head, "--head", *address)
        self.url = f"http://{self.head.ip}:8265"
        for host in self.workers.values():
            self.ray(host, f"--address={self.head.ip}:6379", "--num-cpus=2")
        until(lambda: self.try_status(), lambda found: found.get("nodes") == 3)

    def ray(self, host: Host, *arguments: str) -> None:
        start = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block")
        settings = ("--object-store-memory=100000000", "--disable-usage-stats")
        runs = {"DIFFSWEEP_HOME": str(host.folder / "runs")}
        node = f"--node-ip-address={host.ip}"
        host.start(*start, *arguments, node, *settings, **self.environment, **runs)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A diffsweep command on the client."""
        return self.on_client(sys.executable, "-m", "cluster.cli", *arguments)

    def on_client(self, *command: str) -> subprocess.CompletedProcess[str]:
        whole = self.client.command(
            *command,
            PYTHONPATH=str(ROOT),
            RAY_ADDRESS=self.url,
            RAY_AUTH_TOKEN_PATH=str(self.token),
            DIFFSWEEP_HOME=str(self.client.folder / "runs"),
        )
        return subprocess.run(whole, capture_output=True, text=True, timeout=PATIENCE)

    def get(self, *arguments: str) -> Any:
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])  # own code may print before

    def try_status(self) -> dict[str, Any]:
        done = self.run("status", "-o", "json")
        found: dict[str, Any] = json.loads(done.stdout)["cluster"] if done.stdout else {}
        return found

    def driver(self, search: str) -> Host:
        """The host that the driver of a search runs on."""
        code = (
            "import json; from cluster.config import the_cluster; from search.home import Home; "
            f"print(the_cluster(None, Home()).get('/api/jobs/{search}')['driver_info']"
            "['node_ip_address'])"
        )
        done = self.on_client(sys.executable, "-c", code)
        (host,) = (host for host in self.workers.values() if host.ip == done.stdout.strip())
        return host


def until(look: Callable[[], Any], condition: Callable[[Any], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not condition(found := look()):
        assert time.monotonic() < deadline, f"waited too long, at {found}"
        time.sleep(2)
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    lab = Lab(tmp_path)
    try:
        yield Cluster(lab, tmp_path)
    finally:
        lab.down()


def submit(cluster: Cluster) -> str:
    spec = cluster.client.folder / "spec.yaml"
    (spec.parent / "modules").mkdir()
    (spec.parent / "modules" / "mine.py").write_text(MODULE)
    spec.write_text(SPEC)
    until(lambda: cluster.run("submit", str(spec)).stderr, lambda said: "storage: null" in said)
    id: str = cluster.get("submit", str(spec), "--storage", str(cluster.storage))["id"]
    # the driver's nodes have no such code but what was shipped
    (spec.parent / "modules" / "mine.py").unlink()
    until(lambda: cluster.get("trials", id), lambda rows: sum(r["step"] >= 100 for r in rows) > 1)
    return id


def check_complete(cluster: Cluster, id: str) -> None:
    """All trials are there, in full, and nothing was reported twice."""
    rows = cluster.get("trials", id)
    assert [(row["state"], row["step"]) for row in rows] == [("complete", 600)] * 6
    for row in rows:
        log = [line for line in cluster.run("logs", id, str(row["trial"])).stdout.splitlines()]
        steps = [line.split(" step ")[1].split(":")[0] for line in log if " step " in line]
        assert [int(step) for step in steps] == list(range(20, 601, 20))


def test_a_worker_loses_its_power_in_the_middle(cluster: Cluster) -> None:
    id = submit(cluster)
    driver = cluster.driver(id)
    (other,) = (host for host in cluster.workers.values() if host is not driver)
    other.cut_power()
    done = lambda found: found["state"] not in ("running", "pending")  # noqa: E731
    assert until(lambda: cluster.get("status", id), done)["state"] == "complete"
    check_complete(cluster, id)
    target = cluster.client.folder / "best"
    cluster.get("export", id, "--to", str(target))
    metrics = json.loads((target / "metrics.json").read_text())
    again = cluster.get("train", str(target / "config.yaml"))
    assert again["val_loss"] == metrics["val_loss"]


def test_the_drivers_host_loses_its_power_and_another_takes_over(cluster: Cluster) -> None:
    id = submit(cluster)
    cluster.driver(id).cut_power()
    until(lambda: cluster.get("status", id), lambda found: found["state"] == "interrupted")
    until(lambda: cluster.run("resume", id), lambda done: done.returncode == 0)
    until(lambda: cluster.get("status", id), lambda found: found["state"] == "complete")
    check_complete(cluster, id)
