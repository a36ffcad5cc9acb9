"""diffsweep's jobs on a cluster: what they ship, where they run, and what they answer."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import time
from pathlib import Path
from typing import Any

import search
import trainable
from search.errors import BadInput, DiffsweepError
from search.execution.dashboard import Dashboard, Job
from search.execution.queue import is_search
from search.history.folder import ID
from search.watch.answers import read_answer

# a polite end: Ray Tune saves at SIGINT alone, and MLflow gets what is left
STOPPING = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "90"}
PATIENCE = 180.0  # seconds for an answer: a cluster may have to make room first
KEEP = 3600.0  # seconds that a job which only answered is left to be looked at
POLL = 0.2  # seconds between looks
VIEW = "diffsweep-view-"  # begins the id of a job that only answers


def start(
    dashboard: Dashboard,
    id: str,
    verb: str,
    request: dict[str, Any],
    metadata: dict[str, str] | None = None,
    working_dir: Path | None = None,
    node: str | None = None,
) -> None:
    """Start a job that runs `python -m search VERB REQUEST`, with this very code.

    It takes no CPU from the trials. `node` is the address of the one to run on; without it, Ray
    takes the head.
    """
    from ray.job_submission import JobSubmissionClient

    headers = {"Authorization": f"Bearer {dashboard.token}"} if dashboard.token else {}
    elsewhere = os.environ.pop("RAY_ADDRESS", None)  # it would take that before the one given
    client = JobSubmissionClient(dashboard.url, headers=headers)
    if elsewhere is not None:
        os.environ["RAY_ADDRESS"] = elsewhere
    environment: dict[str, Any] = {"py_modules": packages(), "env_vars": STOPPING}
    if working_dir is not None:
        environment["working_dir"] = str(working_dir)
    logging.disable(logging.INFO)  # a line for each file that it ships
    client.submit_job(
        entrypoint=f"python -m search {verb} {shlex.quote(json.dumps(request))}",
        submission_id=id,
        runtime_env=environment,
        metadata=metadata,
        entrypoint_resources={f"node:{node}": 0.001} if node else None,
    )


def packages() -> list[str]:
    """The folders of the code that the cluster runs, shipped by their content."""
    return [str(Path(module.__path__[0])) for module in (search, trainable)]


def ask(dashboard: Dashboard, verb: str, node: str | None = None, **request: Any) -> Any:
    """What the cluster answers to a question.

    Raises:
        DiffsweepError: it has only faults to tell, with the exit code that they have there.
        BadInput: it does not answer at all.
    """
    id = VIEW + secrets.token_hex(6)
    start(dashboard, id, verb, request, node=node)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # the status first: what is printed before the end is then in the log
        job = next(job for job in dashboard.jobs() if job.id == id)
        if job.status != "PENDING":
            answer = read_answer(dashboard.logs(id))
            if answer is not None:
                return unwrap(answer)
            if not job.alive:
                raise BadInput(f"{dashboard.url}: {told(job, dashboard.logs(id))}")
        time.sleep(POLL)
    dashboard.stop(id)
    raise BadInput(f"{dashboard.url}: no answer in {PATIENCE:g} seconds")


def unwrap(answer: dict[str, Any]) -> Any:
    if "faults" not in answer:
        return answer["content"]
    if answer["exit_code"] == BadInput.exit_code:
        raise BadInput(*answer["faults"])
    raise DiffsweepError(*answer["faults"])


def told(job: Job, log: str) -> str:
    """Why a job ended as it did: its last words, else Ray's."""
    lines = [line for line in log.splitlines() if line.strip() and "INFO" not in line]
    last = lines[-1].strip() if lines else ""
    return last or job.message.strip().splitlines()[-1]


def tidy(dashboard: Dashboard) -> None:
    """Forget jobs that only answered, and whose answers nobody waits for any more."""
    before = 1000 * (time.time() - KEEP)
    for job in dashboard.jobs():
        if job.id.startswith(VIEW) and not job.alive and job.submitted < before:
            dashboard.delete(job.id)


def drivers(dashboard: Dashboard, search: str | None = None) -> list[Job]:
    """The jobs that drive searches, or one search: the first one and those of its resumes."""
    return [
        job
        for job in dashboard.jobs()
        if is_search(job)
        and search in (None, job.metadata["diffsweep.search"])
        # the names of folders here are made of it, whoever wrote it there
        and ID.match(job.metadata["diffsweep.search"])
    ]
