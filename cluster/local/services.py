"""Services as processes of this machine: started, waited for, found again, ended by their ids."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from cluster.local.address import LOCAL
from search.errors import BadInput, DiffsweepError
from search.execution.local import LOOPBACK
from search.history.home import Home

PATIENCE = 120.0  # seconds for a service to come up
GRACE = 20.0  # seconds for a service to end by itself
Services = dict[str, dict[str, Any]]  # name -> {"pid", "started", "address"}


def end(process: psutil.Process) -> None:
    """End a process and its descendants, politely first. A recycled id is never touched."""
    family = [*process.children(recursive=True), process]
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
    psutil.wait_procs([process], GRACE)
    _, left = psutil.wait_procs(family, 2)  # Ray's agents would stay for a minute
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, GRACE)


def find(service: dict[str, Any]) -> psutil.Process | None:
    """The process of a service, if it is still the one that was started."""
    try:
        process = psutil.Process(service["pid"])
        same = abs(process.create_time() - service["started"]) < 0.1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def alive(local: dict[str, Any], name: str) -> bool:
    service = local.get("services", {}).get(name)
    return service is not None and find(service) is not None


def launch(
    home: Home, local: dict[str, Any], name: str, command: list[str], environment: dict[str, str]
) -> None:
    """Start a service in a session of its own, and write down which process it is."""
    log = os.open(log_of(home, name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    process = subprocess.Popen(  # noqa: S603
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        umask=0o077,
        cwd=home.path,
    )
    os.close(log)
    started = psutil.Process(process.pid).create_time()
    local["services"][name] = {"pid": process.pid, "started": started}
    write_private(home.path / LOCAL, json.dumps(local, indent=2))


def wait_for(home: Home, local: dict[str, Any], name: str, answers: Callable[[], object]) -> None:
    """Wait until a service answers.

    Raises:
        DiffsweepError: it ended, or does not answer in time.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answers()
            return
        except (OSError, DiffsweepError) as error:
            if alive(local, name) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            log = log_of(home, name)
            last = "".join(log.read_text(errors="replace").strip().splitlines()[-1:])
            raise DiffsweepError(f"{name} did not come up: {last} (see {log})") from error


def log_of(home: Home, name: str) -> Path:
    return home.path / "up" / f"{name}.log"


def port_for(flag: str, asked: int | None, usual: int) -> int:
    """The port asked for, else the usual one if it is free, else a free one.

    Raises:
        BadInput: the one asked for is taken.
    """
    if is_free(asked or usual):
        return asked or usual
    if asked is not None:
        raise BadInput(f"{flag} {asked}: taken on {LOOPBACK}; without {flag} a free one is found")
    return free_port()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, whole or not at all."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
