"""Searches wherever they are: seen, steered, gone on with and removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from cluster.local.address import find_cluster, the_cluster
from cluster.remote.following import lines_of, wrote
from cluster.remote.jobs import ask, drivers, told
from cluster.remote.located import Remote, driver_of, locate, place_of
from cluster.remote.submit import resubmit
from search.errors import BadInput
from search.execution.dashboard import Dashboard, Gone, Job
from search.execution.queue import has_begun, need_of, room, scene, why_waiting
from search.history.folder import Folder
from search.history.home import Home

POLL = 1.0  # seconds between looks at a driver that is ending


def status(search: str, cluster: str | None) -> dict[str, Any]:
    """A search as it stands, and why it waits if it does."""
    where = locate(search, cluster)
    if isinstance(where, Folder):
        from search.watch.status import status_of

        found, jobs = status_of(where), driver_of(where, cluster)
        return with_reasons(found, jobs) if jobs and jobs.jobs else found
    last = where.jobs[-1] if where.jobs else None
    if last is not None and len(where.jobs) == 1 and not wrote(where.dashboard, last):
        return with_reasons(unbegun(last), where)
    return with_reasons(where.ask("status"), where) if where.jobs else where.ask("status")


def unbegun(job: Job) -> dict[str, Any]:
    """A search of which nothing is known but its job."""
    trials = {"used": 0, "of": int(job.metadata["diffsweep.trials"])}
    return {
        "id": job.metadata["diffsweep.search"],
        "state": "pending",
        "trials": {},
        "optimizers": {},
        "best": None,
        "pareto": None,
        "budget": {
            "trials": trials,
            "wall_clock": {"used": 0.0, "of": None},
            "gpu_hours": {"used": 0.0, "of": None, "counts": "CPU"},
        },
        "failed": [],
        "seconds_left": None,
        "why": "its driver is starting",
    }


def with_reasons(found: dict[str, Any], where: Remote) -> dict[str, Any]:
    """A status with what the cluster knows: why nothing has begun, or why trials are pending."""
    job, now = where.jobs[-1], scene(where.dashboard)
    if job.alive and not has_begun(job, now) and found["state"] != "running":
        why = why_waiting(job, now) or "its driver is starting"
        return found | {"state": "pending", "why": why}
    if job.alive and found["trials"].get("pending"):
        return found | {"why": f"pending trials wait for {room(need_of(job), now)}"}
    if found["state"] == "pending":  # its driver ended before it began
        state = "cancelled" if job.status == "STOPPED" else "failed"
        try:
            why = told(job, "\n".join(lines_of(where.dashboard, job)))
        except Gone:
            why = told(job, "")
        return found | {"state": state, "why": why}
    return found


def searches(cluster: str | None) -> list[dict[str, Any]]:
    """The searches here and on the cluster."""
    from search.watch.status import iso, list_searches

    home = Home()
    rows = {row["id"]: row for row in list_searches(home)}
    try:
        dashboard = find_cluster(cluster, home)
        if dashboard is None:
            return list(rows.values())
        dashboard.check()
    except BadInput as error:
        if cluster is not None:
            raise
        click.echo(f"only what is here, since the cluster is not to be had: {error}", err=True)
        return list(rows.values())
    known = drivers(dashboard)
    places = [place_of(job.metadata) for job in known] or [place_of({})]
    for index, place in enumerate(places):
        here = place == place_of({"diffsweep.home": str(home.path)})
        if place not in places[:index] and not here:
            rows |= {row["id"]: row for row in ask(dashboard, "ls", **place)}
    for job in known:
        id = job.metadata["diffsweep.search"]
        if id not in rows:
            state = {"FAILED": "failed", "STOPPED": "cancelled"}.get(job.status, "pending")
            begun = iso(job.submitted)
            rows[id] = {"id": id, "state": state, "trials": 0, "best": None, "started": begun}
    return list(rows.values())


def steer(search: str, cluster: str | None, verb: str, meaning: str, **content: Any) -> str:
    """Ask the driver of a search for something; what comes of it."""
    where = locate(search, cluster)
    jobs = driver_of(where, cluster) if isinstance(where, Folder) else where
    if verb in ("stop", "cancel") and jobs and jobs.jobs and jobs.jobs[-1].alive:
        job = jobs.jobs[-1]
        if not wrote(jobs.dashboard, job):
            jobs.dashboard.stop(job.id)
            return f"{jobs.id}: ended before it began"
    if isinstance(where, Folder):
        from pathlib import Path

        from search.watch.operate import ask_driver, chosen_from

        if "config" in content:
            content = {"chosen": chosen_from(where, Path(content["config"]))}
        return ask_driver(where, verb, meaning, **content)
    if "config" in content:
        content = {"config": config_text(content["config"]), "file": content["config"]}
    wish = {"verb": verb, "meaning": meaning, **content}
    answer: str = where.ask("request", wish=wish)
    return answer


def config_text(path: str) -> str:
    """A config file, read here where the user has it.

    Raises:
        BadInput: it can't be read.
    """
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        raise BadInput(f"--config {path}: {error.strerror}") from error


def go_on(
    where: Folder | Remote, cluster: str | None, verb: str, **request: Any
) -> dict[str, Any]:
    """Start a new driver for a submitted search, on its cluster."""
    if isinstance(where, Folder):
        dashboard = the_cluster(cluster, Home())
        where = Remote(dashboard, where.id, drivers(dashboard, where.id))
        home = {"home": str(Home().path), "storage": Home().storage}
        about = where.jobs[0].metadata if where.jobs else None
        about = about or ask(dashboard, "description", search=where.id, **home)
    else:
        about = where.jobs[0].metadata if where.jobs else where.ask("description")
    let_end(where)
    return resubmit(where.dashboard, verb, about, **request)


def let_end(where: Remote) -> None:
    """Give a driver that is ending the time to end; one that is not, `resubmit` refuses."""
    if any(job.alive for job in where.jobs) and where.ask("ending"):
        ended_jobs(where.dashboard, where.id)


def ended_jobs(dashboard: Dashboard, search: str) -> list[Job]:
    """The jobs of a search, once none of them is alive, or after a while."""
    from search.execution.ready import DRIVER_PATIENCE

    deadline = time.monotonic() + DRIVER_PATIENCE
    while any(job.alive for job in drivers(dashboard, search)) and time.monotonic() < deadline:
        time.sleep(POLL)
    return drivers(dashboard, search)


def remove(search: str, cluster: str | None, dry_run: bool) -> Iterator[str]:
    """Delete a search, and have the cluster forget its jobs; say so line by line.

    Raises:
        BadInput: there is no such search, or its driver runs.
    """
    where = locate(search, cluster)
    if isinstance(where, Folder):
        from search.watch.operate import remove as remove_here

        jobs = driver_of(where, cluster)
        yield from remove_here(Home(), where.id, dry_run)
    else:
        jobs = where
        yield from where.ask("rm", dry_run=dry_run)
    if jobs and not dry_run:  # else `ls` would go on to show it
        for job in ended_jobs(jobs.dashboard, jobs.id):
            jobs.dashboard.delete(job.id)
