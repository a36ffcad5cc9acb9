"""How many trials of a spec a place holds at once: this machine, or a cluster."""

from __future__ import annotations

import os

from cluster.local.address import the_cluster
from cluster.remote.submit import check_spec
from search.errors import BadInput
from search.execution.joined import too_large
from search.execution.local import concurrency, fits, limited
from search.history.home import Home
from search.spec.spec import SearchSpec

HERE = "this machine"


def places(spec: SearchSpec, cluster: str | None) -> tuple[str, int | None, BadInput | None]:
    """Where the search would run, how many trials that holds at once, and why it holds none."""
    if not (cluster or os.environ.get("RAY_ADDRESS")):
        try:
            return HERE, concurrency(spec), None
        except BadInput as error:
            return HERE, None, BadInput(f"{error} (--cluster URL asks a cluster instead)")
    dashboard = the_cluster(cluster, Home())
    nodes, need = dashboard.nodes(), spec.resources
    try:
        check_spec(spec, nodes, dashboard)
        held = limited(need, sum(fits(need, node.cpus, node.gpus) for node in nodes))
        if not held:
            raise BadInput(too_large(need, dashboard))
        return dashboard.url, held, None
    except BadInput as error:
        return dashboard.url, None, error
