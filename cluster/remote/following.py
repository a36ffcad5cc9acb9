"""What a search on a cluster says, as it comes: its drivers' output, and the log of a trial."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import click

from cluster.remote.located import Remote
from search.execution.dashboard import Dashboard, Gone, Job
from search.watch.logs import Line, as_they_come

POLL = 1.0  # seconds between looks at a job's log
RAYS_OWN = re.compile(r"INFO job_manager\.py|^Running entrypoint for job ")


def wait(dashboard: Dashboard, job: str) -> int:
    """Show what a job prints until it ends; its exit code."""
    for line in follow(dashboard, [job]):
        click.echo(line, err=True)
    row = dashboard.get(f"/api/jobs/{job}")
    code = row.get("driver_exit_code")
    return 1 if code is None else int(code)


def logs(where: Remote, follows: bool) -> Iterator[str]:
    """What the drivers of a search printed, one after the other."""
    if follows:
        yield from follow(where.dashboard, [job.id for job in where.jobs])
        return
    try:
        printed = [lines_of(where.dashboard, job) for job in where.jobs]
    except Gone:  # the history has it all but for what was said before it began
        printed = [[str(Line(*row)) for row in where.ask("logs", trial=None)]]
    for lines in printed:
        yield from lines


def trial_logs(where: Remote, trial: int | None, follows: bool) -> Iterator[Line]:
    """The log of a trial, or of a search whose jobs are forgotten."""

    def look() -> list[Line]:
        return [Line(*row) for row in where.ask("logs", trial=trial)]

    def runs() -> bool:
        return follows and where.ask("status")["state"] == "running"

    return as_they_come(look, runs)


def follow(dashboard: Dashboard, ids: list[str]) -> Iterator[str]:
    """The lines of jobs as they come, until the last has ended."""
    for id in ids:
        shown, alive = 0, True
        while alive:
            job = next(job for job in dashboard.jobs() if job.id == id)
            alive = job.alive
            try:
                lines = lines_of(dashboard, job)
            except Gone:
                yield f"the node of job {id} is gone, and what it printed"
                break
            whole = lines if not alive else lines[:-1]  # the last may be half there
            yield from whole[shown:]
            shown = len(whole)
            if alive:
                time.sleep(POLL)


def lines_of(dashboard: Dashboard, job: Job) -> list[str]:
    """What a job has printed, without Ray's own words; nothing of one that has not started."""
    if job.status == "PENDING":
        return []
    lines = dashboard.logs(job.id).splitlines()
    return [line for line in lines if not RAYS_OWN.search(line)]


def wrote(dashboard: Dashboard, job: Job) -> bool:
    """Whether a driver has got so far as to write to its search's history, and takes requests."""
    begins = f"search {job.metadata['diffsweep.search']} begins"
    try:
        return any(begins in line for line in lines_of(dashboard, job))
    except Gone:
        return True
