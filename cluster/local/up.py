"""`diffsweep up` and `down`: a Ray head and an MLflow server as processes of this machine.

Both listen on loopback alone. Ray wants a token; MLflow takes requests for its own address only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.local.address import LOCAL, read_local
from cluster.local.services import (
    Services,
    alive,
    end,
    find,
    free_port,
    launch,
    port_for,
    wait_for,
    write_private,
)
from search.errors import BadInput
from search.execution.dashboard import Dashboard
from search.execution.local import LOOPBACK, ON_LOOPBACK, short_folder
from search.history.home import Home
from search.tracking.embedded import make_store
from search.tracking.server import check_reachable
from trainable.base.cpus import count_cpus

RAY_PORT, MLFLOW_PORT = 8265, 5000  # where people expect them, if free
OF_WORKERS = range(10002, 20000)  # ports that a Ray head gives to its workers


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
    refuse_ports({"--ray-port": ray_port, "--mlflow-port": mlflow_port})
    ray = port_for("--ray-port", ray_port, RAY_PORT)
    mlflow = port_for("--mlflow-port", mlflow_port, MLFLOW_PORT)
    local = {
        "ray": f"http://{LOOPBACK}:{ray}",
        "mlflow": f"http://{LOOPBACK}:{mlflow}",
        "token": str(token),
        "temporary": tempfile.mkdtemp(prefix="dsw-", dir=short_folder()),
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


def refuse_ports(asked: dict[str, int | None]) -> None:
    """Raises BadInput for ports that can't be had, by what was asked for."""
    for flag, port in asked.items():
        if port is None:
            continue
        if not 0 < port < 2**16:
            raise BadInput(f"{flag} {port}: want a port from 1 to {2**16 - 1}")
        if port in OF_WORKERS:
            raise BadInput(
                f"{flag} {port}: Ray gives {OF_WORKERS[0]} to {OF_WORKERS[-1]} to its workers; "
                "want another port"
            )
    ray, mlflow = asked.values()
    if ray is not None and ray == mlflow:
        raise BadInput(f"--mlflow-port {mlflow}: is --ray-port, too")


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
        f"--num-cpus={count_cpus()}",
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
    make_store(home)
    with contextlib.closing(sqlite3.connect(home.store)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "MLFLOW_BACKEND_STORE_URI": home.store_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes for nothing here
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
