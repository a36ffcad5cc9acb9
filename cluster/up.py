"""`diffsweep up` and `down`: a Ray head and an MLflow server as processes of this machine.

Both listen on loopback alone. Ray wants a token; MLflow takes requests for its own address only.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from cluster.config import LOCAL, read_local
from search.dashboard import Dashboard
from search.errors import BadInput, DiffsweepError
from search.home import Home
from search.local import LOOPBACK, ON_LOOPBACK
from search.tracking import check_reachable

PATIENCE = 120.0  # seconds for a service to come up
GRACE = 20.0  # seconds for a service to end by itself
RAY_PORT, MLFLOW_PORT = 8265, 5000  # where people expect them, if free
Services = dict[str, dict[str, Any]]  # name -> {"pid", "started", "address"}


def up(
    home: Home, ray_port: int | None, mlflow_port: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Start what of the local cluster does not run yet; its addresses.

    Raises:
        BadInput: a port that was asked for is taken.
        DiffsweepError: a service did not come up.
    """
    home.prepare()
    local = read_local(home)
    refuse_hosts(local)
    if alive(local, "ray") and alive(local, "mlflow"):
        say("already up")
        return local
    clear_away(local)
    folder = home.path / "up"
    folder.mkdir(mode=0o700, exist_ok=True)
    token = folder / "token"
    write_private(token, secrets.token_hex(32))
    ray = port_for("--ray-port", ray_port, RAY_PORT)
    mlflow = port_for("--mlflow-port", mlflow_port, MLFLOW_PORT)
    local = {
        "ray": f"http://{LOOPBACK}:{ray}",
        "mlflow": f"http://{LOOPBACK}:{mlflow}",
        "token": str(token),
        "temporary": tempfile.mkdtemp(prefix="dsw-"),  # short: sockets have a limited path
        "services": {},
    }
    try:
        launch(home, local, "mlflow", mlflow_command(home, mlflow), mlflow_environment(home))
        launch(home, local, "ray", ray_command(local, ray), ray_environment(home, local))
        dashboard = Dashboard(local["ray"], token.read_text())
        wait_for(home, local, "ray", lambda: dashboard.nodes())
        wait_for(home, local, "mlflow", lambda: check_reachable(local["mlflow"]))
    except BaseException:
        down(home)
        raise
    return local


def down(home: Home) -> list[str]:
    """End what `up` started, by its processes' ids; the names of what ran."""
    local = read_local(home)
    refuse_hosts(local)
    ended = clear_away(local)
    (home.path / LOCAL).unlink(missing_ok=True)
    return ended


def refuse_hosts(local: dict[str, Any]) -> None:
    """Raises BadInput where it is not a local cluster that is up."""
    if "hosts" in local:
        raise BadInput(
            f"the cluster on {', '.join(local['hosts'])} is up; `diffsweep down --hosts FILE` "
            "ends it"
        )


def clear_away(local: dict[str, Any]) -> list[str]:
    """End the services that run, with all processes that they started."""
    services: Services = local.get("services", {})
    ended = []
    for name in reversed(services):
        if (process := find(services[name])) is not None:
            end(process)
            ended.append(name)
    if "temporary" in local:
        shutil.rmtree(local["temporary"], ignore_errors=True)
    return ended


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


def states(home: Home) -> list[dict[str, Any]]:
    """The services that `up` started here, and whether they are up."""
    local = read_local(home)
    if "hosts" in local:
        return []  # not processes of this machine
    return [
        {
            "service": name,
            "state": "up" if alive(local, name) else "down",
            "address": local.get(name),
        }
        for name in ("ray", "mlflow")
    ]


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


def ray_command(local: dict[str, Any], port: int) -> list[str]:
    ports = {
        "port": 0,
        "dashboard-port": port,
        "dashboard-agent-listen-port": 0,
        "dashboard-agent-grpc-port": 0,
        "ray-client-server-port": 0,
    }
    chosen = (f"--{name}={value or free_port()}" for name, value in ports.items())
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *(f"--node-ip-address={LOOPBACK}", f"--dashboard-host={LOOPBACK}", *chosen),
        *(f"--temp-dir={local['temporary']}", "--disable-usage-stats"),
    ]


def ray_environment(home: Home, local: dict[str, Any]) -> dict[str, str]:
    """What Ray's processes know, drivers and trials included."""
    without = ("RAY_ADDRESS", "RAY_AUTH_TOKEN")
    return {
        **{key: value for key, value in os.environ.items() if key not in without},
        **ON_LOOPBACK,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": local["token"],
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # GPUs are hidden from trials that ask for none
        "DASHBOARD_METRIC_PORT": str(free_port()),
        "AUTOSCALER_METRIC_PORT": str(free_port()),
        "DIFFSWEEP_HOME": str(home.path),
        "MLFLOW_TRACKING_URI": local["mlflow"],
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        # jobs say just `python`
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def mlflow_command(home: Home, port: int) -> list[str]:
    hosts = ",".join(f"{host}:{port}" for host in (LOOPBACK, "localhost"))
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port)),
        *("--workers", "1", "--allowed-hosts", hosts),
        # not through the server, so that `run` and `ui` use the same store when it is down
        *("--default-artifact-root", home.artifacts.as_uri()),
    ]


def mlflow_environment(home: Home) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(home.store)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "MLFLOW_BACKEND_STORE_URI": home.store_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes for nothing here
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


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
