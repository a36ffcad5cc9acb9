"""The MLflow that a search is recorded in: its address, whether it answers, and a client of it."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from search.errors import BadInput
from search.history.home import Home
from search.history.storage import check_local
from search.spec.spec import SearchSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient


def client_of(uri: str, retries: int = 1, timeout: int = 30) -> MlflowClient:
    """A client that is silent; each call has `timeout` seconds, and `retries` more tries."""
    os.environ |= {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    from mlflow import MlflowClient

    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.ERROR)
    return MlflowClient(uri)


def tracking_uri(spec: SearchSpec, home: Home) -> str:
    """Where this search is recorded: the spec's, the environment's, or the embedded store."""
    return spec.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or home.store_uri


def masked(uri: str) -> str:
    """An address without the passwords in it: of its user, or among its parameters."""
    uri = re.sub(r"(://[^/@:]*:).*@", r"\1***@", uri)
    return re.sub(r"(?i)\b(\w*(?:password|secret|token|key)\w*=)[^&]*", r"\1***", uri)


def check_reachable(uri: str) -> None:
    """Look whether the tracking server answers, or the database can be written.

    Raises:
        BadInput: it does not, it can't, or MLflow has no such kind of store.
    """
    parts = urlsplit(uri)
    shown = masked(uri)
    try:
        if parts.scheme in ("http", "https"):
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()  # noqa: S310
        elif parts.scheme == "sqlite":
            file = uri.partition(":///")[2]
            check_local(
                Path(file), "tracking.uri", "use `mlflow server` and its address, or a local disk"
            )
            with closing(sqlite3.connect(file, timeout=5)) as database:
                database.execute("BEGIN IMMEDIATE")  # takes the right to write, writes nothing
        elif parts.scheme.partition("+")[0] in ("postgresql", "mysql", "mssql"):
            from sqlalchemy import create_engine

            create_engine(uri).connect().close()
        else:
            raise BadInput(
                f"tracking.uri: {shown} is no store that diffsweep can use; "
                "want http(s)://host:port, sqlite:///file or postgresql://..."
            )
    except BadInput:
        raise
    except Exception as error:  # each kind of store fails in ways of its own
        reason = str(getattr(error, "reason", error)).splitlines()[0]
        raise BadInput(f"tracking.uri: {shown} does not answer: {reason}") from error


def check_experiment(uri: str, name: str, home: Home) -> None:
    """Look whether MLflow will take the runs of this experiment, by one that is deleted again.

    In the embedded store, which is ours, only whether the experiment was deleted; and of one that
    is new, only whether MLflow answers for experiments.

    Raises:
        BadInput: it was, or MLflow does not take it; the message says what to do.
    """
    if uri == home.store_uri:
        gone = deleted_in(home.store, name)
    else:
        client = client_of(uri, retries=0, timeout=10)
        try:
            found = client.get_experiment_by_name(name)
            gone = found.experiment_id if found and found.lifecycle_stage == "deleted" else None
            if found is not None and gone is None:
                try_run(client, found.experiment_id)
        except Exception as error:  # permissions, a version, a schema: whatever it refuses
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadInput(
                f"tracking: MLflow at {masked(uri)} does not take a run of '{name}': {reason}"
            ) from error
    if gone is not None:
        command = f"mlflow experiments restore --experiment-id {gone}"
        raise BadInput(
            f"tracking.experiment: '{name}' was deleted in MLflow; restore it with "
            f"`MLFLOW_TRACKING_URI={masked(uri)} {command}`, or set another tracking.experiment"
        )


def try_run(client: MlflowClient, experiment: str) -> None:
    """Write a run, read it back, and delete it."""
    run = client.create_run(experiment, run_name="can this be written?")
    try:
        client.log_metric(run.info.run_id, "val_loss", 0.5, step=1)
        if client.get_run(run.info.run_id).data.metrics.get("val_loss") != 0.5:
            raise ValueError("it gave back another run than was written")
    finally:
        client.delete_run(run.info.run_id)


def deleted_in(store: Path, name: str) -> str | None:
    """The number of an experiment that was deleted from the embedded store; None if it wasn't."""
    if not store.exists():
        return None
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)) as database:
        try:
            row = database.execute(
                "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = ?",
                (name, "deleted"),
            ).fetchone()
        except sqlite3.OperationalError:  # it has no tables yet
            return None
    return None if row is None else str(row[0])
