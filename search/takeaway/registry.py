"""A trial as a version of a model in MLflow's registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from search.history.book import Book, Trial
from search.history.folder import Folder
from search.history.home import Home
from search.spec.spec import SearchSpec
from search.tracking.server import check_reachable, tracking_uri

if TYPE_CHECKING:
    pass
from search.takeaway.publish import connect, log_model


@contextmanager
def pointed_at(uri: str) -> Iterator[None]:
    """Let what takes no client in MLflow use this store, and undo it afterwards."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before or "")
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)


def register(folder: Folder, home: Home, book: Book, trial: Trial, name: str) -> str:
    """Register a trial as a version of the model `name`, its champion; the version.

    Raises:
        DiffsweepError: MLflow is away, or does not know the search.
    """
    spec = SearchSpec.model_validate(book.spec)
    check_reachable(tracking_uri(spec, home))
    client, parent = connect(spec, folder, home)
    model_id = log_model(client, parent, folder, book, trial)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    with pointed_at(client.tracking_uri):  # it looks the model up there
        created = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=parent.info.run_id,
            tags={"diffsweep.search": folder.id, "diffsweep.trial": str(trial.number)},
            model_id=model_id,
        )
    client.set_registered_model_alias(name, "champion", created.version)
    return str(created.version)
