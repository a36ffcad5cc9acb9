"""A cluster as the place of a search, whose driver is a job on it."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from search.errors import BadInput
from search.execution.dashboard import Dashboard, token_from_environment
from search.execution.local import fits, limited
from search.execution.queue import Need, largest, scene, why_waiting
from search.history.storage import check_storage
from search.spec.spec import Resources, SearchSpec
from trainable.base.opening import open_storage
from trainable.base.storage import StorageError

LOOK_EVERY = 2.0  # seconds between looks at the queue
NODE_PATIENCE = 60.0  # seconds for every node to look at the storage


class Ray(Protocol):
    """Ray, which may still be starting."""

    def wait(self) -> None:
        """Wait until it is up. Raises SearchFailed if it does not come up."""

    def end(self) -> None:
        """The search needs it no more."""


class Place(Protocol):
    """Where the trials of a search run."""

    @property
    def job(self) -> str | None:
        """The Ray job that drives the search, if one does."""

    def concurrency(self, spec: SearchSpec) -> int:
        """How many trials run at once. Raises BadInput if not one can."""

    def ray(self, shared_bytes: int) -> AbstractContextManager[Ray]:
        """Ray, for as long as the search runs, with room for `shared_bytes` of data."""


class Joined:
    """The cluster that this process is a job of. The search begins when its turn has come."""

    def __init__(self, job: str, say: Callable[[str], None], code: Path | None = None) -> None:
        """`code` is a folder with the user's code that the cluster does not have yet."""
        import ray

        self.job, self.say = job, say
        logging.getLogger("ray").setLevel(logging.ERROR)
        context = ray.init(
            address="auto",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"working_dir": str(code)} if code else None,
        )
        self.dashboard = Dashboard(f"http://{context.dashboard_url}", token_from_environment())

    def concurrency(self, spec: SearchSpec) -> int:
        places = sum(fits(spec.resources, node.cpus, node.gpus) for node in self.dashboard.nodes())
        if places < spec.resources.workers:
            raise BadInput(too_large(spec.resources, self.dashboard))
        return limited(spec.resources, places)

    def ray(self, shared_bytes: int) -> AbstractContextManager[Joined]:
        return nullcontext(self)

    def wait(self) -> None:
        """Ray is up."""

    def end(self) -> None:
        """Ray is for others, too."""

    def wait_for_turn(self, need: Need) -> None:
        """Wait until the searches before this one have begun, and a trial fits; say why."""
        said: str | None = None
        while True:
            now = scene(self.dashboard)
            mine = next(job for job in now.jobs if job.id == self.job)
            why = why_waiting(mine, now)
            if why is None:
                return
            if why != said:
                self.say(f"{self.job}: {why}")
                said = why
            time.sleep(LOOK_EVERY)


def check_everywhere(storage: str) -> None:
    """See that every node of the cluster has the storage, and that it is the same one.

    Raises:
        BadInput: a line for each node that does not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    marker = f".probe-{secrets.token_hex(4)}"
    opened = open_storage(storage, attempts=1)
    opened.create(marker, b"")
    try:
        look = ray.remote(num_cpus=0)(fault_here)
        asked = {
            node["NodeManagerHostname"]: look.options(
                scheduling_strategy=On(node["NodeID"], soft=False)
            ).remote(storage, marker)
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=NODE_PATIENCE)
        faults = []
        for host, answer in asked.items():
            try:
                fault = ray.get(answer, timeout=0.1)
            except ray.exceptions.RayError as error:
                fault = f"can't be asked: {str(error).splitlines()[0]}"
            if fault is not None:
                faults.append(f"storage: node {host}: {fault}")
    finally:
        opened.delete(marker)
        ray.shutdown()
    if faults:
        raise BadInput(*faults)


def fault_here(storage: str, marker: str) -> str | None:
    """Why a storage is not to be had on this node, or is another one; None if it is."""
    try:
        check_storage(storage)
        open_storage(storage, attempts=1).read(marker)
    except FileNotFoundError:
        return f"{storage} is another folder there; want one that all nodes share"
    except (BadInput, StorageError) as error:
        return str(error)
    return None


def too_large(need: Resources, dashboard: Dashboard) -> str:
    """That no node can hold a trial, in plain words."""
    each = f" for each of its {need.workers} workers" if need.workers > 1 else ""
    wanted = f"{Need(need.cpu, need.gpu)}{each}"
    key = "gpu" if need.gpu else "cpu"
    return (
        f"resources.{key}: a trial needs {wanted}; {largest(dashboard.nodes())}; "
        f"lower resources.{key}, or add a node"
    )


def cluster_home() -> Path:
    """The home folder on a node of a cluster: as its environment says, else under the user's."""
    return Path(os.environ.get("DIFFSWEEP_HOME") or Path.home() / "diffsweep").absolute()
