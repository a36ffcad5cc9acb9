"""Searches in which something is killed again and again, by seed: is anything lost?

    python tests/chaos/campaign.py [--from 0] [--count 8] [--kills 5] [--table FILE]

Each seed gives a short search with a spec of its own (allocation, scheduler, sampler, slots, with
or without storage, with its own MLflow server or the embedded store), and kills: of the driver, a
trial's process, Ray's node process or the MLflow server, each after a wait and with a pause after
it. A driver that ended is resumed. At the end the search has to be whole: support/killing.py says
what that means; beside it, no process may be left, and no line cut short. A row for each seed is
appended to the table. The same seed strikes again in the same way, as far as moments can be.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.killing import LONGEST, SPEC, begin, check_nothing_lost, output, wait_for_history
from support.servers import free_port, mlflow_server

from search.history.folder import Folder
from search.history.home import Home
from search.history.log import read_book

VICTIMS = ("driver", "trial", "node", "server")
LONGEST_WAIT, LONGEST_PAUSE = 6.0, 4.0  # seconds before a kill, and after it
RESUMES = 4  # at most, once nothing is killed any more
GONE_IN = 60.0  # seconds in which processes have to end after their driver


@dataclass(frozen=True)
class Plan:
    """What a seed stands for."""

    seed: int
    spec: dict[str, Any]
    storage: bool
    server: bool
    kills: tuple[tuple[str, float, float], ...]  # who, after so many seconds, and a pause


def plan(seed: int, kills: int) -> Plan:
    draw = random.Random(seed)
    spec = yaml.safe_load(SPEC) | {
        "allocation": draw.choice(["adaptive", "equal"]),
        "scheduler": {"type": draw.choice(["asha", "hyperband", "median", "none"])},
        "sampler": {"type": draw.choice(["tpe", "random", "qmc"])},
        "resources": {"concurrent": draw.choice([1, 2])},
    }
    storage, server = draw.random() < 0.5, draw.random() < 0.5
    victims = VICTIMS if server else VICTIMS[:-1]
    moments = tuple(
        (draw.choice(victims), draw.uniform(0, LONGEST_WAIT), draw.uniform(0, LONGEST_PAUSE))
        for _ in range(kills)
    )
    return Plan(seed, spec, storage, server, moments)


@dataclass
class Search:
    """A search under attack, in a folder of its own."""

    plan: Plan
    root: Path
    struck: list[str] = field(default_factory=list)  # who was killed
    seen: dict[int, psutil.Process] = field(default_factory=dict)  # the drivers' descendants
    resumes: int = 0

    def run(self) -> None:
        """Run it to its end. Raises AssertionError with what is not as it should be."""
        with ExitStack() as stack:
            self.port, self.server = free_port(), stack
            uri = self._start_server() if self.plan.server else None
            spec = self.plan.spec | ({"tracking": {"uri": uri}} if uri else {})
            if self.plan.storage:
                spec |= {"storage": str(self.root / "storage")}
            (self.root / "spec.yaml").write_text(yaml.safe_dump(spec))
            self.home = self.root / "home"
            self.process = begin(self.home, "run", str(self.root / "spec.yaml"))
            for victim, wait, pause in self.plan.kills:
                self._strike(victim, wait, pause)
            self._finish()
            check_nothing_lost(self.home, self.folder, uri)
            self._check_left()

    @property
    def folder(self) -> Folder:
        (folder,) = Home(self.home).searches()
        return folder

    def _start_server(self) -> str:
        self.serving = ExitStack()
        self.server.push(self.serving)
        return self.serving.enter_context(mlflow_server(self.root, self.port))

    def _strike(self, victim: str, wait: float, pause: float) -> None:
        wait_for_history(self.home, self.process)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.02)
        self._look_around()
        if self.process.poll() is None and self._kill(victim):
            self.struck.append(victim)
        time.sleep(pause)
        if victim == "server" and self.plan.server:
            self.serving.close()
            self._start_server()
        if victim == "driver":
            self.process.wait(LONGEST)
        if self.process.poll() is not None and read_book(self.folder.history).state != "complete":
            self._resume()

    def _kill(self, victim: str) -> bool:
        """Whether there was one to kill."""
        if victim == "server":
            self.serving.close()
            return True
        if victim == "driver":
            self.process.send_signal(signal.SIGKILL)
            return True
        for one in self.seen.values():
            try:
                if _is(victim, one.cmdline()):
                    one.kill()
                    return True
            except psutil.NoSuchProcess:
                continue
        return False

    def _look_around(self) -> None:
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self.seen = {n: p for n, p in self.seen.items() if p.is_running()}
        self.seen |= {one.pid: one for one in found}

    def _resume(self) -> None:
        self.resumes += 1
        self.process = begin(self.home, "resume", self.folder.id)

    def _finish(self) -> None:
        for _ in range(RESUMES):
            while self.process.poll() is None:
                self._look_around()
                try:
                    self.process.wait(1.0)
                except subprocess.TimeoutExpired:
                    age = time.time() - self.folder.history.stat().st_mtime
                    assert age < LONGEST, f"no event for {age:.0f} s: {output(self.home)}"
            if self.process.returncode == 0:
                return
            self._resume()
        raise AssertionError(f"it does not end: {output(self.home)}")

    def _check_left(self) -> None:
        """No process is left, and no file of the history ends within a line."""
        assert self.folder.history.read_bytes().endswith(b"\n")
        _, alive = psutil.wait_procs(self.seen.values(), GONE_IN)
        left = [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        assert not left, f"still running: {[' '.join(one.cmdline())[:80] for one in left]}"


def _is(victim: str, command: list[str]) -> bool:
    """Whether a process is that of a trial, or Ray's own."""
    program = command[0] if command else ""
    if victim == "node":
        return Path(program).name == "raylet"
    return program.startswith("ray::") and not program.startswith("ray::IDLE")


def attempt(one: Plan) -> dict[str, Any]:
    """Run a plan. The row for the table; the folder stays where something was wrong."""
    root, began = Path(tempfile.mkdtemp(prefix=f"chaos-{one.seed}-")), time.monotonic()
    search, wrong = Search(one, root), None
    try:
        search.run()
        shutil.rmtree(root)
    except Exception as error:
        wrong = f"{type(error).__name__}: {str(error)[:1500]} (in {root})"
        if search.process.poll() is None:
            search.process.kill()
    keys = {key: one.spec[key] for key in ("allocation", "scheduler", "sampler")}
    return {
        "seed": one.seed,
        "spec": {k: v["type"] if isinstance(v, dict) else v for k, v in keys.items()},
        "slots": one.spec["resources"]["concurrent"],
        "storage": one.storage,
        "server": one.server,
        "killed": search.struck,
        "resumes": search.resumes,
        "seconds": round(time.monotonic() - began),
        "wrong": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--table", type=Path, help="a file of JSON lines to append to")
    arguments = parser.parse_args()
    failed = []
    for seed in range(arguments.first, arguments.first + arguments.count):
        row = attempt(plan(seed, arguments.kills))
        print(json.dumps(row), flush=True)
        if arguments.table is not None:
            with arguments.table.open("a") as table:
                table.write(json.dumps(row) + "\n")
        failed += [seed] if row["wrong"] else []
    for seed in failed:
        print(f"again: python tests/chaos/campaign.py --from {seed} --count 1", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
