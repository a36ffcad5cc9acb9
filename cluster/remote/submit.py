"""`diffsweep submit`: a search as a job of a Ray cluster, after checks that tell what is wrong."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from cluster.remote.jobs import ask, drivers, start, tidy
from search.errors import BadInput
from search.execution.dashboard import Dashboard, Node
from search.execution.joined import too_large
from search.execution.queue import Need
from search.history.folder import new_id
from search.history.home import Home
from search.spec.spec import SearchSpec
from search.watch.answers import described

IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".venv")


def submit(
    dashboard: Dashboard, spec: SearchSpec, earlier: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Begin a search on the cluster; its id, and where to look.

    Raises:
        BadInput: a check found that it can't run there; nothing began.
    """
    check_versions("Ray", version("ray"), dashboard.check())
    nodes = dashboard.nodes()
    check_spec(spec, nodes, dashboard)
    tidy(dashboard)
    node = driver_node(nodes)
    with TemporaryDirectory() as temporary:
        shipped = ship_code(spec, Path(temporary))
        shipped = shipped.model_copy(update={"storage": spec.storage or Home().storage})
        found = ask(dashboard, "node", node, spec=shipped.model_dump(mode="json"))
        shipped = shipped.model_copy(update={"storage": found["storage"]})
        check_versions("Python", platform.python_version(), found["python"])
        check_shared(found["storage"], len(nodes))
        id = new_id(spec.name)
        request = {"spec": shipped.model_dump(mode="json"), "earlier": list(earlier)}
        about = described(id, shipped, found["home"], found["tracking"])
        folder = Path(temporary) if spec.code else None
        drive(dashboard, "run", id, about, node, request, folder)
    return {"id": id, "cluster": dashboard.url, "mlflow": found["tracking"]}


def resubmit(
    dashboard: Dashboard, verb: str, about: dict[str, str], **request: Any
) -> dict[str, Any]:
    """Go on with a search, or confirm its winners, as a job of its own; which one.

    `about` is what the search's first job says of it.

    Raises:
        BadInput: one of its drivers still runs.
    """
    search = about["diffsweep.search"]
    known = drivers(dashboard, search)
    if running := [job.id for job in known if job.alive]:
        raise BadInput(f"{search}: its driver {running[-1]} is still running")
    numbers = [int(job.id.rpartition("-r")[2]) for job in known if job.id != search]
    job = f"{search}-r{max(numbers, default=0) + 1}"
    drive(dashboard, verb, job, about, driver_node(dashboard.nodes()), request)
    return {"id": search, "job": job, "cluster": dashboard.url}


def drive(
    dashboard: Dashboard,
    verb: str,
    job: str,
    about: dict[str, str],
    node: str | None,
    request: dict[str, Any],
    folder: Path | None = None,
) -> None:
    """Start a driver; `folder` holds what is shipped to it."""
    request |= {
        "search": about["diffsweep.search"],
        "job": job,
        # with a storage, any node will do, with a home of its own
        "home": None if about["diffsweep.storage"] else about["diffsweep.home"],
        "storage": about["diffsweep.storage"] or None,
        "needs": [float(amount) for amount in about["diffsweep.needs"].split()],
    }
    start(dashboard, job, verb, request, about, folder, node)


def check_versions(what: str, here: str, there: str) -> None:
    """Raises BadInput unless both are of one minor version."""
    if here.split(".")[:2] != there.split(".")[:2]:
        raise BadInput(f"{what} is {there} on the cluster and {here} here; install the same")


def check_spec(spec: SearchSpec, nodes: list[Node], dashboard: Dashboard) -> None:
    """What can be seen to be wrong without asking a node.

    Raises:
        BadInput: no node can hold a trial, or a password would become readable.
    """
    need = Need(spec.resources.cpu, spec.resources.gpu)
    if not any(need.fits(node.cpus, node.gpus) for node in nodes):
        raise BadInput(too_large(spec.resources, dashboard))
    uri = spec.tracking.uri
    if uri is not None and urlsplit(uri).password:
        raise BadInput(
            "tracking.uri: a password in a spec can be read by everybody on the cluster; set "
            "MLFLOW_TRACKING_URI in the environment of its nodes"
        )


def check_shared(storage: str | None, nodes: int) -> None:
    """Raises BadInput where the nodes would have nothing in common."""
    if storage is None and nodes > 1:
        raise BadInput(
            f"storage: null is a folder of one node, the cluster has {nodes}; "
            "want s3://bucket/prefix, or a folder that all nodes share"
        )


def driver_node(nodes: list[Node]) -> str | None:
    """The address of a worker for the driver, which then outlives the head; None without one."""
    workers = sorted(node.ip for node in nodes if not node.head)
    return workers[0] if workers else None


def ship_code(spec: SearchSpec, folder: Path) -> SearchSpec:
    """Copy the user's code to `folder`/code/0, 1, ...; the spec, which names it from there."""
    for index, source in enumerate(spec.code):
        shutil.copytree(source, folder / "code" / str(index), ignore=IGNORED)
    return spec.model_copy(update={"code": tuple(f"code/{i}" for i in range(len(spec.code)))})


def next_commands(result: dict[str, Any], program: str) -> Iterator[str]:
    """What to type next."""
    id = result["id"]
    yield f"{program} status {id} --watch"
    yield f"{program} logs {id} -f"
    yield f"{program} stop {id}"
