"""Which cluster a command talks to, and the token that it wants."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit

from search.errors import BadInput
from search.execution.dashboard import Dashboard, token_from_environment
from search.history.home import Home

LOCAL = "cluster.json"  # in the home: what `up` started
LOOPBACK, DASHBOARD_PORT = "127.0.0.1", 8265  # of a Ray head, unless it was told another


def read_local(home: Home) -> dict[str, Any]:
    """What `up` wrote into the home; empty if nothing is up."""
    try:
        found: dict[str, Any] = json.loads((home.path / LOCAL).read_text())
    except FileNotFoundError:
        return {}
    return found


def find_cluster(given: str | None, home: Home) -> Dashboard | None:
    """The cluster given, else RAY_ADDRESS, else the one that `up` started here; None without one.

    Raises:
        BadInput: the address is not one of a Ray dashboard.
    """
    local = read_local(home)
    url = given or os.environ.get("RAY_ADDRESS")
    if url == "auto":  # as Ray has it: the one on this machine
        url = local.get("ray") or f"http://{LOOPBACK}:{DASHBOARD_PORT}"
    if url and url != "local":  # which is none at all
        address = dashboard_url(url, "--cluster" if given else "RAY_ADDRESS")
        return Dashboard(address, token_for(address, home))
    if "ray" in local:
        return Dashboard(local["ray"], token_for(local["ray"], home))
    return None


def the_cluster(given: str | None, home: Home) -> Dashboard:
    """The cluster to talk to, and that it answers.

    Raises:
        BadInput: there is none, or it can't be talked to.
    """
    found = find_cluster(given, home)
    if found is None:
        raise BadInput(
            f"no cluster: none is up in {home.path}; `diffsweep up` starts one here, "
            "--cluster URL or RAY_ADDRESS names another"
        )
    found.check()
    return found


def token_for(url: str, home: Home) -> str | None:
    """The token for an address: of the local cluster its own, else the environment's."""
    local = read_local(home)
    if local.get("ray") == url.rstrip("/"):
        with open(local["token"]) as file:
            return file.read().strip()
    return token_from_environment()


def dashboard_url(url: str, where: str) -> str:
    """The address of a dashboard; of another service of a Ray head, its dashboard's usual one.

    Ray's own commands are given HOST:6379, and its client ray://HOST:10001.

    Raises:
        BadInput: it can be none.
    """
    parts = urlsplit(url if "://" in url else f"ray://{url}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # no number
        host, port = None, None
    if host and ":" in host:
        host = f"[{host}]"
    if host and parts.scheme == "ray" and "://" not in url and port == DASHBOARD_PORT:
        return f"http://{host}:{port}"
    if host and parts.scheme == "ray" and (port or "://" in url) and not parts.path:
        return f"http://{host}:{DASHBOARD_PORT}"
    if parts.scheme not in ("http", "https") or not host:
        host = host or "HOST"
        raise BadInput(f"{where}: {url} is no address of a Ray dashboard; want http://{host}:8265")
    if parts.password or parts.username:
        raise BadInput(f"{where}: no secrets in an address; the token comes from the environment")
    return url.rstrip("/")
