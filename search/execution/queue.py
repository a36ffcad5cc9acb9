"""Whose turn it is on a cluster: searches begin in the order of their submission.

A search has begun once Ray has given one of its trials a place. Until then it waits for two
things: that every search submitted before it has begun, and that one trial fits on some node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from search.execution.dashboard import Dashboard, Job, Node

GIVEN = ("ALIVE", "DEAD", "RESTARTING")  # a trial process in these states has had its place


class Need(NamedTuple):
    """What one trial takes."""

    cpu: float
    gpu: float

    def __str__(self) -> str:
        parts = [f"{self.cpu:g} CPU" + "s" * (self.cpu != 1)] if self.cpu else []
        parts += [f"{self.gpu:g} GPU" + "s" * (self.gpu != 1)] if self.gpu else []
        return " and ".join(parts)

    def fits(self, cpus: float, gpus: float) -> bool:
        return self.cpu <= cpus + 1e-6 and self.gpu <= gpus + 1e-6


class Scene(NamedTuple):
    """A cluster at one moment."""

    jobs: list[Job]  # in the order of submission
    trials: Mapping[str, list[str]]  # states of the trial processes of each search
    nodes: list[Node]
    free: Mapping[str, Mapping[str, float]]  # by node


def scene(dashboard: Dashboard) -> Scene:
    """The cluster as it is now."""
    nodes, told = dashboard.nodes(), dashboard.free()
    # a node that the autoscaler does not report counts as free: then the order alone decides here,
    # and Ray keeps what is asked of it waiting
    free = {
        node.id: told.get(node.id) or told.get(node.ip) or {"CPU": node.cpus, "GPU": node.gpus}
        for node in nodes
    }
    return Scene(dashboard.jobs(), dashboard.trial_actors(), nodes, free)


def is_search(job: Job) -> bool:
    """Whether a job is the driver of a search."""
    return "diffsweep.search" in job.metadata


def need_of(job: Job) -> Need:
    """What a trial of the job's search takes, as its submission says."""
    cpu, gpu = job.metadata.get("diffsweep.needs", "1 0").split()
    return Need(float(cpu), float(gpu))


def has_begun(job: Job, now: Scene) -> bool:
    return any(state in GIVEN for state in now.trials.get(job.id, ()))


def ahead(job: Job, now: Scene) -> list[Job]:
    """Searches submitted before this one that have not begun yet."""
    earlier = now.jobs[: [other.id for other in now.jobs].index(job.id)]
    return [job for job in earlier if is_search(job) and job.alive and not has_begun(job, now)]


def fitting(need: Need, now: Scene) -> list[Node]:
    """Nodes with room for a trial now."""
    return [
        node
        for node in now.nodes
        if node.id in now.free
        and need.fits(now.free[node.id].get("CPU", 0), now.free[node.id].get("GPU", 0))
    ]


def holders(now: Scene) -> dict[str, int]:
    """Searches with trial processes on the cluster, and how many."""
    counts = {search: states.count("ALIVE") for search, states in now.trials.items()}
    return {search: count for search, count in counts.items() if count}


def why_waiting(job: Job, now: Scene) -> str | None:
    """Why a search has not begun, on one line; None when nothing holds it back."""
    need = need_of(job)
    if before := ahead(job, now):
        names = ", ".join(other.metadata["diffsweep.search"] for other in before)
        return f"waits for its turn behind {names}, submitted before; {room(need, now)}"
    if not fitting(need, now):
        return f"waits for {room(need, now)}"
    return None


def room(need: Need, now: Scene) -> str:
    """What a trial needs, what is free, and who holds the rest."""
    if not any(need.fits(node.cpus, node.gpus) for node in now.nodes):
        return f"{need} for a trial, which no node can hold: {largest(now.nodes)}"
    kinds = {"CPU": need.cpu, "GPU": need.gpu}
    free = [
        f"{sum(node.get(kind, 0) for node in now.free.values()):g} of "
        f"{sum(node.cpus if kind == 'CPU' else node.gpus for node in now.nodes):g} {kind}s free"
        for kind, wanted in kinds.items()
        if wanted
    ]
    held = [f"{search} ({count} trials)" for search, count in holders(now).items()]
    by = f"; the rest is held by {', '.join(held)}" if held else ""
    return f"{need} for a trial, {', '.join(free)}{by}"


def largest(nodes: Iterable[Node]) -> str:
    """The node that can hold most, in words."""
    top = max(nodes, key=lambda node: (node.gpus, node.cpus), default=None)
    if top is None:
        return "the cluster has no node"
    return f"the largest node ({top.ip}) has {top.cpus:g} CPUs and {top.gpus:g} GPUs"


def overview(now: Scene) -> dict[str, Any]:
    """The cluster as JSON: its nodes, what is free, and who holds the rest."""
    return {
        "nodes": len(now.nodes),
        **{
            f"{kind.lower()}s": {
                "free": sum(node.get(kind, 0) for node in now.free.values()),
                "of": sum(node.cpus if kind == "CPU" else node.gpus for node in now.nodes),
            }
            for kind in ("CPU", "GPU")
        },
        "searches": [
            {
                "id": job.metadata["diffsweep.search"],
                "trials": holders(now).get(job.id, 0),
                "why": None if has_begun(job, now) else why_waiting(job, now),
            }
            for job in now.jobs
            if is_search(job) and job.alive
        ],
    }
