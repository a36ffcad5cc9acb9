"""Training curves of an earlier search as MLflow recorded them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from search.errors import NoSearch
from search.forecast.curves import Curve, Curves, usable
from search.tracking.server import check_reachable, client_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PRIMARY = "mlflow.experiment.primaryMetric.name"  # the tag of an experiment that names its loss


def read_mlflow(uri: str, search: str) -> Curves:
    """Curves of the complete trials of a search, by their learning rates.

    Raises:
        BadInput: MLflow does not answer, or no optimizer has two complete trials.
        NoSearch: MLflow has no runs of this search.
    """
    check_reachable(uri)
    client = client_of(uri)
    experiments = {e.experiment_id: e for e in client.search_experiments()}
    query = f"tags.`diffsweep.search` = '{search}' and tags.`diffsweep.stage` = 'search'"
    runs: list[Run] = []
    token: str | None = None
    while experiments:
        page = client.search_runs(list(experiments), query, max_results=1000, page_token=token)
        runs += page
        if not (token := page.token):
            break
    if not runs:
        raise NoSearch(f"{search}: no such search here, and none in MLflow at {uri}")
    rates: dict[str, dict[float, Curve]] = defaultdict(dict)
    for run in runs:
        if run.data.tags.get("diffsweep.state") == "complete":
            metric = experiments[run.info.experiment_id].tags.get(PRIMARY, "val_loss")
            lr = float(run.data.params["optimizer.lr"])
            rates[run.data.params["optimizer"]][lr] = _curve(client, run.info.run_id, metric)
    return usable(rates, search, ("all settings but the learning rate",))


def _curve(client: MlflowClient, run: str, metric: str) -> Curve:
    """A metric over the shares of the budget: steps are joined with the samples seen by then."""
    samples = {m.step: m.value for m in client.get_metric_history(run, "samples")}
    values = {m.step: m.value for m in client.get_metric_history(run, metric)}
    full = max(samples.values())
    return [(samples[step] / full, values[step]) for step in sorted(values) if samples.get(step)]
