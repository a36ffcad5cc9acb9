"""Who can be struck: the processes of a search, its services, and a second host for its trials.

A process of the search is told by the folder that it works in, which its children take over.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from support.services import S3, Mlflow

SERVICES = ("s3", "server")
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
# of a trial, and of its workers. One of Ray's that is idle may be starting to be such a one: if it
# is killed then, Ray waits for it for two minutes
TRIALS = ("ray::trials-of-", "ray::Worker")


class Victims:
    """All that is there of a search in a folder: `here` its driver's, `host` those of the other
    host, and its services beside them.
    """

    def __init__(self, root: Path) -> None:
        self.here, self.host = root / "here", root / "host"
        self.services: dict[str, Any] = {}
        for name in ("here", "host", "s3", "server"):
            (root / name).mkdir()
        self.root = root

    def start_s3(self) -> dict[str, str]:
        """Start one; the environment in which it is used."""
        self.services["s3"] = found = S3(self.root / "s3")
        found.start()
        return found.environment

    def start_server(self) -> str:
        """Start MLflow; its address."""
        folder = self.root / "server"
        stores = f"sqlite:///{folder}/server.db", str(folder / "files")
        self.services["server"] = found = Mlflow(folder, *stores, {})
        found.start()
        return found.uri

    def join_host(self) -> None:
        """Have another host join the Ray of the search, if that is up and has none."""
        raylets = [one for one in in_folder(self.here) if is_raylet(one)]
        if not raylets or in_folder(self.host):
            return
        (gcs,) = (word for word in raylets[0].cmdline() if word.startswith("--gcs-address="))
        command = [sys.executable, str(Path(__file__).parent / "host.py"), gcs.partition("=")[2]]
        try:
            environment = raylets[0].environ()
        except psutil.Error:  # it has ended
            return
        del environment["RAY_OVERRIDE_RESOURCES"]
        with (self.root / "host.log").open("ab") as log:
            subprocess.Popen(
                [*command, "2"],
                cwd=self.host,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def of(self, victim: str, lot: float = 0.0) -> list[psutil.Process]:
        """The processes that make up a victim, as they are now; none if it is not there."""
        if victim == "host":
            found = in_folder(self.host)
            return found if any(is_raylet(one) for one in found) else []  # it has not joined yet
        if victim in SERVICES:
            service = self.services[victim].process
            alive = service is not None and service.poll() is None
            return family(psutil.Process(service.pid)) if alive else []
        if victim == "node":
            found = [one for one in in_folder(self.here) if is_node(one)]
        else:
            found = [one for one in in_folder(self.root) if program(one).startswith(TRIALS)]
        return found[int(lot * len(found)) :][:1]

    def kill(self, victim: str, processes: list[psutil.Process]) -> None:
        if victim in SERVICES:
            self.services[victim].kill()
        send(processes, signal.SIGKILL)

    def left(self) -> list[psutil.Process]:
        """What of the search still runs, its services aside."""
        return [*in_folder(self.here), *in_folder(self.host)]

    def end(self) -> None:
        """End all of it."""
        send(self.left(), signal.SIGKILL)
        for service in self.services.values():
            if service.process is not None and service.process.poll() is None:
                service.kill()


def send(processes: list[psutil.Process], number: int) -> None:
    for one in processes:
        try:
            one.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def in_folder(folder: Path) -> list[psutil.Process]:
    """Living processes that work in a folder, or below it."""
    found = []
    for pid in psutil.pids():
        try:
            place = os.readlink(f"/proc/{pid}/cwd")
            if not f"{place}/".startswith(f"{folder}/"):
                continue
            one = psutil.Process(pid)
            if one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (OSError, psutil.NoSuchProcess):  # it has ended
            continue
    return found


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def program(process: psutil.Process) -> str:
    try:
        return next(iter(process.cmdline()), "")
    except psutil.Error:
        return ""


def is_raylet(process: psutil.Process) -> bool:
    return Path(program(process)).name == "raylet"


def is_node(process: psutil.Process) -> bool:
    """Whether a process is Ray's own of a node, which ends with any of them."""
    return is_raylet(process) or program(process).startswith(AGENTS)


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to be so in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def remove(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
