"""Deleting what MLflow holds of a search."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from search.errors import BadInput
from search.history.home import Home
from search.spec.spec import SearchSpec
from search.tracking.server import check_reachable, client_of, masked, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


def forget(home: Home, spec: SearchSpec, search: str) -> Iterator[str]:
    """Delete a search's runs and models, and say which.

    A server marks them as deleted, and `mlflow gc` there frees their files. In the embedded store
    they are deleted for good. A model that is registered stays.

    Raises:
        BadInput: MLflow does not answer, or fails.
    """
    uri = tracking_uri(spec, home)
    check_reachable(uri)
    from mlflow.exceptions import MlflowException

    try:
        client = client_of(uri)
        experiment = client.get_experiment_by_name(spec.experiment)
        if experiment is not None:
            embedded = home if uri == home.store_uri else None
            yield from _models(client, experiment.experiment_id, search, embedded)
            yield _runs(client, experiment.experiment_id, search, embedded)
        else:
            yield "deleted nothing in MLflow, which knows no such search"
    except MlflowException as error:
        why = str(error).strip().splitlines()[0]
        raise BadInput(f"tracking.uri: {masked(uri)}: {why}") from error


def _runs(client: MlflowClient, experiment: str, search: str, embedded: Home | None) -> str:
    query, count = f"tags.`diffsweep.search` = '{search}'", 0
    while runs := client.search_runs([experiment], query, max_results=1000):
        for run in runs:
            client.delete_run(run.info.run_id)
            if embedded is not None:
                _erase(run.info.artifact_uri, embedded)
                client._tracking_client.store._hard_delete_run(run.info.run_id)  # as `mlflow gc`
        count += len(runs)
    return f"deleted its {count} runs in MLflow"


def _models(
    client: MlflowClient, experiment: str, search: str, embedded: Home | None
) -> Iterator[str]:
    query = f"tags.`diffsweep.search` = '{search}'"
    versions = client.search_model_versions(query)
    for model in client.search_logged_models([experiment], query):
        named = [v.name for v in versions if model.model_id in str(v.source)]
        if named:
            yield f"kept its model in MLflow, registered as models:/{named[0]}"
            continue
        client.delete_logged_model(model.model_id)
        if embedded is not None:
            _erase(model.artifact_location, embedded)


def _erase(uri: str, home: Home) -> None:
    """Remove a folder of artifacts, which ends in /artifacts, if it lies in the home."""
    parts, root = urlsplit(uri), home.artifacts.resolve()
    folder = Path(unquote(parts.path)).resolve().parent
    if parts.scheme in ("", "file") and root in folder.parents:
        shutil.rmtree(folder, ignore_errors=True)
