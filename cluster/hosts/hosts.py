"""`diffsweep up --hosts` and `down --hosts`: a cluster over ssh.

Its machines need nothing but a Python with diffsweep's dependencies.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from cluster.hosts.inventory import Inventory, Machine
from cluster.hosts.node import STOP, probe_script, start_script
from cluster.local.address import LOCAL, read_local
from cluster.local.services import alive, write_private
from cluster.remote.submit import check_versions
from search.errors import BadInput, DiffsweepError
from search.execution.dashboard import Dashboard
from search.history.home import Home

AT_ONCE = 16  # logins side by side
ANSWER = 120.0  # seconds for what a host is asked to do
PATIENCE = 300.0  # seconds for all hosts to join
POLL = 1.0  # seconds between looks at who has


def up_hosts(home: Home, inventory: Inventory, say: Callable[[str], None]) -> dict[str, Any]:
    """Start what of the cluster does not run yet; its addresses.

    Raises:
        BadInput: a host can't be logged in to, or has other versions; nothing began.
        DiffsweepError: a host did not join.
    """
    home.prepare()
    local = read_local(home)
    if alive(local, "ray"):
        raise BadInput(f"a local cluster is up in {home.path}; `diffsweep down` ends it")
    if local.get("hosts") and local["ray"] != inventory.url:
        raise BadInput(f"the cluster {local['ray']} is up; `diffsweep down --hosts FILE` ends it")
    on_all(inventory, lambda machine: check_host(inventory, machine))
    token = token_of(home, local)
    local = {
        "ray": inventory.url,
        "mlflow": inventory.environment.get("MLFLOW_TRACKING_URI"),
        "token": str(home.path / "up" / "token"),
        "hosts": [machine.address for machine in inventory.machines],
    }
    write_private(home.path / LOCAL, json.dumps(local, indent=2))
    dashboard = Dashboard(inventory.url, token)
    say(f"head {inventory.head.address}")
    start_host(inventory, inventory.head, token)
    wait_for(dashboard, {inventory.head.address})
    say(f"workers {', '.join(machine.address for machine in inventory.workers)}")
    on_all(inventory, lambda machine: start_host(inventory, machine, token), inventory.workers)
    wait_for(dashboard, set(local["hosts"]))
    return local


def down_hosts(home: Home, inventory: Inventory) -> list[str]:
    """End the cluster, and delete what was written to its hosts.

    Raises:
        BadInput: a host can't be logged in to, or its processes don't end; the others did.
    """
    on_all(inventory, lambda machine: ssh(inventory, machine, STOP))
    if read_local(home).get("ray") == inventory.url:
        (home.path / LOCAL).unlink()
    return [machine.address for machine in inventory.machines]


def on_all(
    inventory: Inventory,
    act: Callable[[Machine], object],
    machines: tuple[Machine, ...] | None = None,
) -> None:
    """Do it on all hosts side by side. Raises BadInput with the faults of all of them."""

    def fault(machine: Machine) -> str | None:
        try:
            act(machine)
        except BadInput as error:
            return f"{machine.address}: {error}"
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        faults = list(filter(None, pool.map(fault, machines or inventory.machines)))
    if faults:
        raise BadInput(*faults)


def check_host(inventory: Inventory, machine: Machine) -> None:
    """Raises BadInput unless the host has the versions that are here."""
    answer = ssh(inventory, machine, probe_script(inventory))
    here = {"Python": platform.python_version(), "Ray": version("ray")}
    for what, there in json.loads(answer.splitlines()[-1]).items():
        check_versions(what, here[what], there)


def start_host(inventory: Inventory, machine: Machine, token: str) -> None:
    ssh(inventory, machine, start_script(inventory, machine, token))


def ssh(inventory: Inventory, machine: Machine, script: str) -> str:
    """What a shell script prints on a host; it goes there by stdin, so that nobody sees it.

    Raises:
        BadInput: the host can't be logged in to, or the script fails.
    """
    user = f"{inventory.user}@" if inventory.user else ""
    configured = ["-F", os.path.expanduser(inventory.ssh_config)] if inventory.ssh_config else []
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    command = ["ssh", *configured, *options, f"{user}{machine.address}", "sh", "-s"]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=script, capture_output=True, text=True, timeout=ANSWER
        )
    except FileNotFoundError as error:
        raise BadInput("ssh is not installed here") from error
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"no answer over ssh in {ANSWER:g} seconds") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ssh ended with code {done.returncode}"]
        raise BadInput(said[-1])
    return done.stdout


def token_of(home: Home, local: dict[str, Any]) -> str:
    """The token of the cluster that is up, else a new one, in a file that nobody else can read."""
    path = home.path / "up" / "token"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not (local.get("hosts") and path.exists()):
        write_private(path, secrets.token_hex(32))
    return path.read_text()


def wait_for(dashboard: Dashboard, addresses: set[str]) -> None:
    """Wait until these hosts have joined. Raises DiffsweepError when they don't."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            missing = addresses - {node.ip for node in dashboard.nodes()}
            why = f"{', '.join(sorted(missing))} did not join; see ~/.diffsweep/log there"
        except BadInput as error:
            missing, why = addresses, str(error)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise DiffsweepError(why)
        time.sleep(POLL)
