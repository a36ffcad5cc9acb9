"""A search under attack: begun, struck as its plan says, resumed, and looked at in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from checks import check_all
from plans import Plan, Strike
from support.paths import ROOT
from support.services import BUCKET
from victims import SERVICES, Victims, in_folder, send, wait_until

from search.history.folder import Folder
from search.history.lock import DriverLock
from search.history.log import events

PATIENCE = 240.0  # seconds for what takes some on a busy machine
RESUMES = 4  # at most, once nothing is struck any more
GONE_IN = 60.0  # seconds in which processes have to end after their driver
# of Ray, where there is a second host: how soon it counts one as lost, and what this one holds
WITH_A_HOST = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}',
}


@dataclass
class Attack:
    """A search with what strikes it, in a folder of its own."""

    plan: Plan
    root: Path
    struck: list[tuple[str, str]] = field(default_factory=list)  # whom, and how
    resumes: int = 0

    def run(self) -> None:
        """Run it to its end. Raises AssertionError with what is not as it should be."""
        self.victims = Victims(self.root)
        try:
            self._prepare()
            self._begin("run", str(self.root / "spec.yaml"))
            for strike in self.plan.strikes:
                if not self._strike(strike):
                    break
            self._finish()
            self._check()
        finally:
            self.victims.end()

    def _prepare(self) -> None:
        """Start the services, and write the spec."""
        spec: dict[str, Any] = {**self.plan.spec}
        self.home, self.ledger, temporary = (self.root / n for n in ("home", "ledger", "t"))
        for folder in (self.ledger, temporary):
            folder.mkdir()
        without = ("RAY_", "MLFLOW_TRACKING", "DIFFSWEEP_", "AWS_")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(without)},
            "PYTHONPATH": str(ROOT),
            "DIFFSWEEP_HOME": str(self.home),
            "TMPDIR": str(temporary),  # of its own, so it is seen what stays there
            "OMP_NUM_THREADS": "1",
            "CHAOS_LEDGER": str(self.ledger),
            "CHAOS_PACE": str(self.plan.pace),
            **(WITH_A_HOST if self.plan.host else {}),
        }
        self.uri: str | None = None
        if self.plan.server:
            self.uri = self.victims.start_server()
            spec["tracking"] = {"uri": self.uri}
        if self.plan.storage == "folder":
            spec["storage"] = str(self.root / "storage")
        if self.plan.storage == "s3":
            self.environment |= (found := self.victims.start_s3())
            os.environ.update(found)  # for what is looked at from here
            spec["storage"] = f"s3://{BUCKET}/chaos-{self.plan.seed}"
        (self.root / "spec.yaml").write_text(yaml.safe_dump(spec))

    @property
    def folder(self) -> Folder:
        (folder,) = (Folder(path.parent) for path in self.home.glob("*/history.jsonl"))
        return folder

    @property
    def output(self) -> str:
        return (self.root / "output.txt").read_text()[-3000:]

    def _begin(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "cluster.cli", *arguments]
        with (self.root / "output.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.victims.here, env=self.environment, stdout=log, stderr=log
            )
        if arguments[0] == "run":
            began = wait_until(lambda: self._alive() is False or self._said("start"), PATIENCE)
            assert began and self._said("start"), self.output

    def _alive(self) -> bool:
        return self.process.poll() is None

    def _said(self, event: str) -> int:
        """How many such events the history has."""
        paths = list(self.home.glob("*/history.jsonl"))
        return sum(e["event"] == event for path in paths for e in events(path))

    def _strike(self, strike: Strike) -> bool:
        """Strike, if the search is still there; whether it was."""
        if not self._alive():
            if self.process.returncode == 0:
                return False
            self._resume()
        reports = self._said("report")
        ready = {
            "work": lambda: self._said("report") > reports,
            "any": lambda: True,
            "end": lambda: self._said("finish") > 0,
        }[strike.when]
        wait_until(lambda: self._look() or ready(), PATIENCE)
        wait_until(lambda: not self._alive(), strike.wait)
        if strike.victim in SERVICES and not self._alive() and self.process.returncode == 0:
            return False
        victims: list[psutil.Process] = []

        def found() -> bool:
            nonlocal victims
            victims = self._victims(strike)
            return bool(victims) or self._look()

        wait_until(found, PATIENCE)
        if victims:
            self._hit(strike, victims)
        return True

    def _look(self) -> bool:
        """Whether the driver has ended; another host joins where one is wanted."""
        if self.plan.host and self._alive():
            self.victims.join_host()
        return not self._alive()

    def _victims(self, strike: Strike) -> list[psutil.Process]:
        if strike.victim != "driver":
            return self.victims.of(strike.victim, strike.lot)
        with suppress(psutil.NoSuchProcess):
            return [psutil.Process(self.process.pid)] if self._alive() else []
        return []

    def _hit(self, strike: Strike, victims: list[psutil.Process]) -> None:
        self.struck.append((strike.victim, strike.way))
        with (self.root / "strikes.txt").open("a") as log:
            pids = [one.pid for one in victims]
            print(int(time.time() * 1000), strike.way, strike.victim, pids, file=log)
        if strike.way == "freeze":
            send(victims, signal.SIGSTOP)
            time.sleep(strike.pause)
            send(victims, signal.SIGCONT)
            return
        self.victims.kill(strike.victim, victims)
        if strike.victim in SERVICES:
            wait_until(lambda: not self._alive(), strike.pause)
            self.victims.services[strike.victim].start()
        elif strike.victim == "driver":
            self.process.wait(PATIENCE)
            self._resume()

    def _resume(self) -> None:
        self.resumes += 1
        send(in_folder(self.victims.host), signal.SIGKILL)  # it waits for a Ray that is gone
        self._begin("resume", self.folder.id)

    def _finish(self) -> None:
        """Let it come to its end; a driver that ended before that is resumed."""
        for _ in range(RESUMES):
            while self._alive():
                self._look()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(1.0)
                silent = time.time() - self.folder.history.stat().st_mtime
                assert silent < PATIENCE, f"no event for {silent:.0f} s: {self.output}"
            if self.process.returncode == 0:
                return
            self._resume()
        raise AssertionError(f"it does not end: {self.output}")

    def _check(self) -> None:
        """Nothing is lost, and nothing is left: no process and no lock; no traceback was shown."""
        send(in_folder(self.victims.host), signal.SIGKILL)  # it was ours
        _, alive = psutil.wait_procs(self.victims.left(), GONE_IN)
        left = [" ".join(one.cmdline())[:80] for one in alive if one.is_running()]
        assert not left, f"still running: {left}"
        check_all(self.home, self.folder, self.uri, self.ledger)
        locks = list((self.root / "t").glob("*/driver.lock"))  # of Ray's folders
        held = [path for path in locks if DriverLock.held(path)]
        assert not held, f"nobody may remove these: {held}"
        told = (self.root / "output.txt").read_text()
        assert "Traceback" not in told, told[told.index("Traceback") :][:3000]
