"""Changes of runs as rows of an SQLite store: one transaction for all of them.

MLflow's client has a call for each run, of some ten milliseconds each, while a cluster can end a
hundred trials in a second. These are the rows that its own store writes (mlflow 3.17,
`store/tracking/sqlalchemy_store.py`), by its own table definitions. A test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from search.tracking.change import Change

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUSY = 20.0  # seconds that another writer may hold the store
LARGEST = 1.7976931348623157e308  # what MLflow stores for infinity
# the columns that are filled here; if MLflow has others by now, its client is used
COLUMNS = {
    "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time "
    "end_time deleted_time source_version lifecycle_stage artifact_uri experiment_id",
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp step is_nan run_uuid",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
}


def tables() -> dict[str, Any] | None:
    """MLflow's tables by name; None if they are not those that are known here."""
    try:
        from mlflow.store.db.base_sql_model import Base
        from mlflow.store.tracking.dbmodels import models  # noqa: F401  of which Base knows then
    except ImportError:
        return None
    found = {name: Base.metadata.tables.get(name) for name in COLUMNS}
    for name, columns in COLUMNS.items():
        table = found[name]
        if table is None or {column.name for column in table.columns} != set(columns.split()):
            return None
    return found


class Rows:
    """Writes to the store of an SQLite URI whose artifacts lie in a folder of this machine."""

    def __init__(self, uri: str, experiment: str, artifacts: str, tables: dict[str, Any]) -> None:
        """`artifacts` is the location of the experiment's, a file:// URI."""
        from sqlalchemy import create_engine

        self.experiment, self.artifacts, self.tables = experiment, artifacts, tables
        self.engine = create_engine(uri, connect_args={"timeout": BUSY})

    def write(self, changes: list[Change]) -> None:
        made = [change for change in changes if change.run is None]
        ids = {id(change): change.run or uuid4().hex for change in changes}
        for change in changes:  # first, since a run that has ended is whole
            self._texts(ids[id(change)], change.texts)
        with self.engine.begin() as connection:
            self._add(connection, "runs", [self._run(ids[id(change)], change) for change in made])
            for change in changes:
                if change.run is not None and change.status is not None:
                    self._update(connection, change)
            named = [(ids[id(change)], change) for change in changes]
            self._tags(connection, named)
            self._add(
                connection, "params", [row for run, one in named for row in pairs(run, one.params)]
            )
            metrics = [row for run, one in named for row in values(run, one)]
            self._add(connection, "metrics", metrics)
            self._latest(connection, metrics)
        for change in made:
            change.run = ids[id(change)]

    def _run(self, run: str, change: Change) -> dict[str, Any]:
        from mlflow.entities import LifecycleStage, RunStatus, SourceType

        return {
            "run_uuid": run,
            "name": change.name,
            "source_type": SourceType.to_string(SourceType.UNKNOWN),
            "source_name": "",
            "entry_point_name": "",
            "user_id": change.tags.get("mlflow.user", "unknown"),
            "status": change.status or RunStatus.to_string(RunStatus.RUNNING),
            "start_time": change.started,
            "end_time": change.ended,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": LifecycleStage.ACTIVE,
            "artifact_uri": f"{self.artifacts}/{run}/artifacts",
            "experiment_id": int(self.experiment),
        }

    def _update(self, connection: Connection, change: Change) -> None:
        table = self.tables["runs"]
        new: dict[str, str | int | None] = {"status": change.status}
        if change.ended is not None:
            new["end_time"] = change.ended
        connection.execute(table.update().where(table.c.run_uuid == change.run).values(new))

    def _tags(self, connection: Connection, named: list[tuple[str, Change]]) -> None:
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
        from sqlalchemy.dialects.sqlite import insert

        rows = []
        for run, change in named:
            name = {MLFLOW_RUN_NAME: change.name} if change.run is None else {}
            rows += pairs(run, change.tags | name)
        if rows:
            new = insert(self.tables["tags"])
            new = new.on_conflict_do_update(
                ["key", "run_uuid"], set_={"value": new.excluded.value}
            )
            connection.execute(new, rows)

    def _add(self, connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
        """Add rows that are not there yet."""
        from sqlalchemy.dialects.sqlite import insert

        if rows:
            connection.execute(insert(self.tables[table]).on_conflict_do_nothing(), rows)

    def _latest(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Of each curve, the point of the last step, and of those the last in time."""
        from sqlalchemy import tuple_
        from sqlalchemy.dialects.sqlite import insert

        last: dict[tuple[str, str], dict[str, Any]] = {}
        for row in sorted(rows, key=order):
            last[row["run_uuid"], row["key"]] = row
        if not last:
            return
        table = self.tables["latest_metrics"]
        new, by = insert(table), ("step", "timestamp", "value")
        set_ = {name: new.excluded[name] for name in (*by, "is_nan")}
        newer = tuple_(*(new.excluded[name] for name in by)) > tuple_(*(table.c[n] for n in by))
        new = new.on_conflict_do_update(["key", "run_uuid"], set_=set_, where=newer)
        connection.execute(new, list(last.values()))

    def _texts(self, run: str, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            path = folder_of(self.artifacts) / run / "artifacts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def folder_of(location: str) -> Path:
    """The folder of a file:// URI."""
    return Path(unquote(urlsplit(location).path))


def order(row: dict[str, Any]) -> tuple[int, int, float]:
    return row["step"], row["timestamp"], row["value"]


def pairs(run: str, content: dict[str, str]) -> list[dict[str, str]]:
    """The rows of tags or parameters, cut to what MLflow holds of each."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    return [
        {"run_uuid": run, "key": key, "value": value[:MAX_PARAM_VAL_LENGTH]}
        for key, value in content.items()
    ]


def values(run: str, change: Change) -> Iterable[dict[str, Any]]:
    """The rows of metrics."""
    for key, value, time, step in change.points:
        nan = math.isnan(value)
        stored = 0.0 if nan else max(-LARGEST, min(LARGEST, value))
        yield {
            "run_uuid": run,
            "key": key,
            "value": stored,
            "timestamp": time,
            "step": step,
            "is_nan": nan,
        }
