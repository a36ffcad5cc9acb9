"""Where a search is: in the home here, or on a cluster that is asked by its token alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cluster.local.address import find_cluster, the_cluster
from cluster.remote.jobs import ask, drivers
from search.errors import BadInput
from search.execution.dashboard import Dashboard, Job
from search.history.folder import Folder
from search.history.home import Home
from trainable.base.faults import nearest


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


def is_submitted(where: Folder | Remote) -> bool:
    """Whether a search runs, or ran last, as a job of a cluster."""
    if isinstance(where, Remote):
        return True
    from search.history.log import read_book

    return read_book(where.history).job is not None
