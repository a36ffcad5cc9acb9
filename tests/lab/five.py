"""Five hosts: a client, a head, two workers, and the services; and what can be seen of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hosts import ROOT, Host, Lab, wait_until

from cluster.hosts.inventory import Inventory
from cluster.hosts.node import files
from search.history.lease import LEASE

NAMES = ["client", "head", "w1", "w2", "services"]
PATIENCE = 900  # seconds for what takes a minute on an idle machine
BATCH, STEPS, REPORT_EVERY, TRIALS = 8, 240, 20, 8
SPEC = f"""\
name: lab
code: [modules]
trial:
  dataset: {{type: "mine:load"}}
  model: {{type: "mine:Net"}}
  batch_size: {BATCH}
  steps: {STEPS}
  report_every: {REPORT_EVERY}
  validation_examples: 16
  quality: null
space:
  optimizer: {{"mine:Noted": {{lr: {{low: 1e-3, high: 1e-1, log: true}}, momentum: 0.9}}}}
  warmup: 0
sampler: {{type: random}}
scheduler: {{type: none}}
budget: {{trials: {TRIALS}}}
"""
# the user's own: data, a model, and an optimizer that notes every step that it takes, where
MODULE = """\
import json, platform, time, uuid
from pathlib import Path
import numpy as np
import torch

PROCESS = uuid.uuid4().hex

def load():
    return np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)

class Net(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 16), torch.nn.SiLU(), torch.nn.Linear(16, 2)
        )

    def forward(self, x, t):
        return self.layers(torch.cat([x, t[:, None] / 1000], 1))

class Noted(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(0.1)
        super().step(closure)
        first = self.state[self.param_groups[0]["params"][0]]
        first["taken"] = first.get("taken", 0) + 1
        note = [self.defaults["lr"], first["taken"], platform.node(), PROCESS, time.time()]
        Path("/tmp/ledger").mkdir(exist_ok=True)
        with open(f"/tmp/ledger/{PROCESS}", "a") as file:
            file.write(json.dumps(note) + chr(10))
"""


class Note(NamedTuple):
    """A training step, as the process that took it saw it."""

    trial: int
    step: int
    host: str
    process: str
    time: float  # seconds since the epoch; all hosts have one clock


class Services:
    """The host of S3, PostgreSQL and MLflow."""

    def __init__(self, host: Host) -> None:
        log = (host.disk / "log").open("ab")
        self._process = subprocess.Popen(
            host.command(sys.executable, str(Path(__file__).parent / "serve.py"), host.address),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self.about = self._answer()

    def ask(self, verb: str, name: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, name]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the services have ended; see `log` on their disk"
        return json.loads(line)

    def names(self, search: str, part: str) -> list[str]:
        """The names below a part of a search's storage."""
        prefix = f"lab/{search}/{part}/"
        return [name.removeprefix(prefix) for name in self.ask("names", prefix)]

    def history(self, search: str) -> list[dict[str, Any]]:
        """The durable record of a search, as it is in S3 now."""
        text: str = self.ask("history", f"lab/{search}")
        return [json.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()


class Cluster:
    """A head without trials and two workers with two CPUs each, as `up --hosts` makes them."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder, NAMES)
        self.hosts = self.lab.hosts
        self.client, self.head = self.hosts["client"], self.hosts["head"]
        self.workers = [self.hosts["w1"], self.hosts["w2"]]
        self.services = Services(self.hosts["services"])
        about = self.services.about
        self.inventory = Inventory.model_validate(
            {
                "head": self.head.address,
                "workers": [{"address": host.address, "cpus": 2} for host in self.workers],
                "python": sys.executable,
                "environment": {
                    **about["environment"],
                    "MLFLOW_TRACKING_URI": about["mlflow"],
                    "DIFFSWEEP_STORAGE": about["storage"],
                },
            }
        )
        self.token = "0123456789abcdef" * 4
        self.mend()

    def down(self) -> None:
        self.services.close()
        self.lab.down()

    def mend(self) -> None:
        """Switch on what is off, plug in what is cut, and wait until all are together."""
        for host in self.hosts.values():
            host.heal_link()
            if not host.on:
                host.boot()
        for host in (self.head, *self.workers):
            self.start(host)
        self.until(self.nodes, lambda found: found == 3)

    def start(self, host: Host) -> None:
        """Start what a host does at boot. There is no systemd here; where it runs, it stays."""
        folder = host.home / ".diffsweep"
        folder.mkdir(mode=0o700, exist_ok=True)
        (machine,) = (m for m in self.inventory.machines if m.address == host.address)
        for name, content in files(self.inventory, machine, self.token).items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o600)
        with (folder / "environment").open("a") as file:
            # Ray would end trials when the whole machine, not this host, runs out of memory
            file.write("RAY_memory_monitor_refresh_ms=0\n")
        host.start("sh", ".diffsweep/keep.sh")

    def replace(self, host: Host) -> None:
        """Put a new machine in its place, with an empty disk; what its ledger says is kept."""
        host.cut_power()
        if (host.disk / "ledger").exists():
            kept = self.lab.folder / f"{host.name}-before-{time.time_ns()}"
            kept.mkdir()
            (host.disk / "ledger").rename(kept / "ledger")
        host.new_disk()

    def diffsweep(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on the client, which has the cluster's address and its token, no more."""
        return self.client.run(
            *(sys.executable, "-m", "cluster.cli", *arguments),
            PYTHONPATH=str(ROOT),
            RAY_ADDRESS=self.inventory.url,
            RAY_AUTH_TOKEN=self.token,
        )

    def get(self, *arguments: str) -> Any:
        done = self.diffsweep(*arguments, "-o", "json")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)

    def nodes(self) -> int | None:
        done = self.diffsweep("status", "-o", "json")
        seen: dict[str, Any] = json.loads(done.stdout)["cluster"] if done.stdout else {}
        return seen.get("nodes")

    def submit(self) -> str:
        """Submit the search from the client; its code is nowhere else but there."""
        (self.client.home / "modules").mkdir(exist_ok=True)
        (self.client.home / "modules" / "mine.py").write_text(MODULE)
        (self.client.home / "spec.yaml").write_text(SPEC)
        id: str = self.get("submit", "spec.yaml")["id"]
        (self.client.home / "modules" / "mine.py").unlink()
        self.until(lambda: self.services.history(id), len)
        return id

    def driver(self, search: str) -> Host:
        """The host that the last driver of a search runs on, or ran."""
        start = [e for e in self.services.history(search) if e["event"] == "start"][-1]
        return self.hosts[start["driver"].partition(":")[0]]

    def ledger(self, search: str) -> list[Note]:
        """All its steps that were ever taken, on any host, in the order of time.

        Its trials are told by their learning rates. They are those of every search here, which
        come one after the other.
        """
        history = self.services.history(search)
        asked = (e for e in history if e["event"] == "ask")
        trials = {e["config"]["optimizer"]["lr"]: e["trial"] for e in asked}
        began = history[0]["time"] / 1000 if history else 0.0
        notes = []
        for path in self.lab.folder.glob("*/ledger/*"):
            whole = (line for line in path.read_text().splitlines() if line.endswith("]"))
            for lr, *rest in map(json.loads, whole):
                if lr in trials and rest[-1] >= began:
                    notes.append(Note(trials[lr], *rest))
        return sorted(notes, key=lambda note: note.time)

    def reports(self, search: str) -> dict[int, list[dict[str, Any]]]:
        """The accepted reports of each trial, in the order of the history."""
        found = defaultdict(list)
        for event in self.services.history(search):
            if event["event"] == "report":
                found[event["trial"]].append(event)
        return found

    def ended(self, search: str) -> dict[int, float]:
        """When each trial ended."""
        history = self.services.history(search)
        return {e["trial"]: e["time"] / 1000 for e in history if e["event"] == "end"}

    def finish(self, search: str) -> str | None:
        """How a search ended; None while its last driver has not said."""
        last = None
        for event in self.services.history(search):
            last = event if event["event"] in ("start", "finish") else last
        return last["state"] if last and last["event"] == "finish" else None

    def wait(self, search: str) -> None:
        """Wait until a search is complete, and its driver has delivered all and gone."""
        self.until(lambda: self.finish(search), lambda state: state is not None)
        assert self.finish(search) == "complete"
        lease = f"lab/{search}/{LEASE}"
        self.until(lambda: self.services.ask("names", lease), lambda found: not found)

    @staticmethod
    def until(look: Callable[[], Any], condition: Callable[[Any], Any]) -> Any:
        return wait_until(look, condition, PATIENCE)
