"""A cluster and its searches as people see them from outside, and what they take home."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.local.address import find_cluster
from cluster.local.up import states
from cluster.remote.located import Remote
from cluster.remote.steering import status
from search.errors import BadInput
from search.execution.queue import overview, scene
from search.history.folder import Folder
from search.history.home import Home
from search.watch.answers import unpack

if TYPE_CHECKING:
    from rich.console import Console

WATCH_EVERY = 2.0  # seconds between looks
GOING = ("pending", "running")


def overview_of(cluster: str | None) -> dict[str, Any]:
    """The cluster and the services here."""
    home = Home()
    dashboard = find_cluster(cluster, home)
    about: dict[str, Any] = {"address": dashboard.url if dashboard else None}
    try:
        if dashboard is not None:
            about |= {"ray": dashboard.check(), **overview(scene(dashboard))}
        about["state"] = "up" if dashboard else "none"
    except BadInput as error:
        about |= {"state": "down", "why": str(error)}
    return {"cluster": about, "services": states(home), "home": str(home.path)}


def show_overview(console: Console, content: dict[str, Any]) -> None:
    about = content["cluster"]
    if about["state"] == "none":
        console.print("cluster: none; `diffsweep up` starts one here, --cluster names another")
    elif about["state"] == "down":
        console.print(f"cluster: {about['why']}", soft_wrap=True)
    else:
        free = ", ".join(
            f"{about[kind]['free']:g} of {about[kind]['of']:g} {kind.upper()[:-1]}s free"
            for kind in ("cpus", "gpus")
        )
        console.print(f"cluster: {about['address']}, Ray {about['ray']}", soft_wrap=True)
        console.print(f"  {about['nodes']} nodes, {free}")
        for row in about["searches"]:
            why = row["why"] or f"{row['trials']} trials at work"
            console.print(f"  {row['id']}: {why}", soft_wrap=True)
    for row in content["services"]:
        console.print(f"{row['service']}: {row['state']}  {row['address'] or ''}", soft_wrap=True)
    console.print(f"home: {content['home']}", soft_wrap=True)


def watch(search: str, cluster: str | None, output: str) -> None:
    """Show a search until it ends."""
    from rich.console import Console

    from search.watch.shown import show_status

    console = Console()
    while True:
        found = status(search, cluster)
        if output == "json":
            click.echo(json.dumps(found))
        else:
            if console.is_terminal:
                console.clear()
            show_status(console, found)
        if found["state"] not in GOING:
            return
        time.sleep(WATCH_EVERY)


def export(
    where: Remote, to: str, per_optimizer: bool, form: str, trial: int | None
) -> dict[str, Any]:
    """Export on the cluster; what is to lie in a folder here is brought here."""
    away = "://" in to or to.startswith("models")
    how = {"per_optimizer": per_optimizer, "form": form, "trial": trial}
    answer = where.ask("export", to=to if away else None, **how)
    result: dict[str, Any] = answer["exported"]
    if answer["files"] is not None:
        target = Path(to)
        try:
            target.mkdir(parents=True, exist_ok=True)
            unpack(answer["files"], target)
        except OSError as error:
            raise BadInput(f"--to {to}: {error.strerror}") from error
        for row in (result, *result["exported"]):
            row["to"] = to + row["to"]
    return result


def report(
    where: Remote, home: Home, margin: float | None
) -> tuple[Folder, dict[str, Any], str | None]:
    """The report of a search on the cluster, brought here; and why MLflow did not take it."""
    answer = where.ask("report", margin=margin)
    folder = Folder(home.path / where.id)
    folder.report.mkdir(parents=True, exist_ok=True)
    unpack(answer["files"], folder.report)
    return folder, answer["report"], answer["problem"]
