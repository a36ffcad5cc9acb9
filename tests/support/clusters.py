"""A real cluster for tests: what `up` starts, with a home of its own and free ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from support.paths import ROOT

TRIAL = """\
trial:
  dataset: {type: points, shape: moons, examples: 200}
  model: {type: mlp, width: 8, depth: 1}
  batch_size: 8
  steps: 40
  report_every: 10
  validation_examples: 16
  quality: null
"""
SPEC = f"name: tiny\n{TRIAL}space: {{optimizer: [adam, sgd]}}\nbudget: {{trials: 3}}\n"
PATIENCE = 240  # seconds for what takes some on a busy machine


class Laptop:
    """A place to type commands: a home, and an environment that knows nothing else."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.home = folder, folder / "home"
        folder.mkdir(parents=True, exist_ok=True)
        hidden = ("MLFLOW_", "DIFFSWEEP_", "RAY_", "PYTEST_", "AWS_")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(hidden)},
            "HOME": str(folder),
            "DIFFSWEEP_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            **environment,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command that goes on beside others; its output is to be read."""
        return subprocess.Popen(
            [sys.executable, "-m", "cluster.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return finish(self.start(*arguments))

    def say(self, *arguments: str) -> str:
        """What a command prints; it has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        return json.loads(self.say(*arguments, "-o", "json").splitlines()[-1])  # own code prints

    def spec(self, text: str = SPEC, name: str = "spec.yaml") -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def wait(self, search: str, *states: str) -> dict[str, Any]:
        """Wait until a search is in one of these states."""
        return until(lambda: self.get("status", search), lambda found: found["state"] in states)


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait until a command ends; what it printed."""
    with process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def up(laptop: Laptop) -> Iterator[Laptop]:
    """A laptop whose cluster is up; at the end `down` leaves none of its processes."""
    laptop.say("up")
    yield laptop
    left = family(laptop)
    laptop.say("down")
    assert not [process for process in left if process.is_running()]


def another(laptop: Laptop) -> Laptop:
    """Another laptop, which has nothing but the address of this one's cluster, and the token."""
    local = json.loads((laptop.home / "cluster.json").read_text())
    return Laptop(
        laptop.folder / "other",
        RAY_ADDRESS=local["ray"],
        RAY_AUTH_TOKEN=Path(local["token"]).read_text(),
    )


def family(laptop: Laptop) -> list[psutil.Process]:
    """All processes of a laptop's cluster."""
    local = json.loads((laptop.home / "cluster.json").read_text())
    roots = [psutil.Process(service["pid"]) for service in local["services"].values()]
    return [one for root in roots for one in (root, *root.children(recursive=True))]


def until(look: Callable[[], Any], condition: Callable[[Any], bool]) -> Any:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition(found := look()):
        assert time.monotonic() < deadline, f"waited too long, at {found}"
        time.sleep(0.5)
    return found
