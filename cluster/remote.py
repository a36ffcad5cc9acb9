"""Searches wherever they are: in the home here, else on a cluster, asked by its token alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import click

from cluster.config import find_cluster, the_cluster
from cluster.following import lines_of, wrote
from cluster.jobs import ask, drivers, told
from cluster.submit import resubmit
from search.dashboard import Dashboard, Gone, Job
from search.errors import BadInput
from search.home import Folder, Home
from search.queue import has_begun, need_of, room, scene, why_waiting
from trainable.reading import nearest

POLL = 1.0  # seconds between looks at a driver that is ending


class Remote(NamedTuple):
    """A search on a cluster."""

    dashboard: Dashboard
    id: str
    jobs: list[Job]  # that drove it, the last one may do so still; empty if forgotten

    def ask(self, verb: str, **request: Any) -> Any:
        """What the cluster answers about it."""
        about = self.jobs[0].metadata if self.jobs else {}
        return ask(self.dashboard, verb, search=self.id, **place_of(about), **request)


def place_of(about: Mapping[str, str]) -> dict[str, str | None]:
    """Where a search's files are, by what its job says of it."""
    storage = about.get("diffsweep.storage") or Home().storage
    # with a storage, any node will do, with a home of its own
    return {"home": None if storage else about.get("diffsweep.home"), "storage": storage}


def locate(search: str, cluster: str | None) -> Folder | Remote:
    """Where a search is, by its id or the only beginning of it.

    Raises:
        BadInput: it is neither here nor on the cluster.
    """
    home = Home()
    try:
        return home.find(search)
    except BadInput:
        if find_cluster(cluster, home) is None:
            raise
    dashboard = the_cluster(cluster, home)
    known = drivers(dashboard)
    ids = list(dict.fromkeys(job.metadata["diffsweep.search"] for job in known))
    matches = [search] if search in ids else [id for id in ids if id.startswith(search)]
    if len(matches) > 1:
        raise BadInput(f"{search}: could be {' or '.join(matches)}")
    if not matches:  # the cluster's head may have been replaced, and the search still be there
        found = [row["id"] for row in ask(dashboard, "ls", **place_of({}))]
        matches = [id for id in found if id.startswith(search)]
        if len(matches) != 1:
            where = f"{home.path} and on {dashboard.url}"
            raise BadInput(f"{search}: no such search{nearest(search, [*ids, *found])} in {where}")
    id = matches[0]
    return Remote(dashboard, id, [job for job in known if job.metadata["diffsweep.search"] == id])


def driver_of(folder: Folder, cluster: str | None) -> Remote | None:
    """The jobs of a search whose folder is here, where it was submitted and they can be seen."""
    home = Home()
    try:
        dashboard = find_cluster(cluster, home)
        if dashboard is None:
            return None
        dashboard.check()
        return Remote(dashboard, folder.id, drivers(dashboard, folder.id))
    except BadInput:
        if cluster is not None:
            raise
        return None  # the cluster is down, the folder tells all that is known


def status(search: str, cluster: str | None) -> dict[str, Any]:
    """A search as it stands, and why it waits if it does."""
    where = locate(search, cluster)
    if isinstance(where, Folder):
        from search.status import status_of

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
    from search.status import iso, list_searches

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

        from search.operate import ask_driver, chosen_from

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
    from search.ready import DRIVER_PATIENCE

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
        from search.operate import remove as remove_here

        jobs = driver_of(where, cluster)
        yield from remove_here(Home(), where.id, dry_run)
    else:
        jobs = where
        yield from where.ask("rm", dry_run=dry_run)
    if jobs and not dry_run:  # else `ls` would go on to show it
        for job in ended_jobs(jobs.dashboard, jobs.id):
            jobs.dashboard.delete(job.id)


def is_submitted(where: Folder | Remote) -> bool:
    """Whether a search runs, or ran last, as a job of a cluster."""
    if isinstance(where, Remote):
        return True
    from search.history import read_book

    return read_book(where.history).job is not None
