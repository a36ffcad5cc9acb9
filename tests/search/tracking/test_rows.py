"""What is written into MLflow's tables directly is what its client writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import event

from search.history.home import Home
from search.tracking.calls import Calls
from search.tracking.change import Change
from search.tracking.rows import COLUMNS, Rows, tables
from search.tracking.server import client_of

INFINITY = float("inf")


@pytest.fixture
def store(home: Path) -> tuple[MlflowClient, str, Rows]:
    """A client, an experiment, and what writes to it directly."""
    Home().prepare()
    client, location = client_of(Home().store_uri), (home / "artifacts" / "it").as_uri()
    experiment, known = client.create_experiment("it", location), tables()
    assert known is not None
    return client, experiment, Rows(Home().store_uri, experiment, location, known)


def changes() -> list[list[Change]]:
    """What is told of two runs, in turn: values that are not finite, that are late, or again."""
    first = Change(name="a-0", started=5, tags={"mlflow.user": "me", "note": "x"})
    first.params = {"lr": "0.1", "long": "y" * 7000}
    first.points = [("loss", 2.0, 10, 4), ("loss", float("nan"), 11, 8), ("high", INFINITY, 11, 8)]
    second = Change(name="b-1", started=6, points=[("loss", -INFINITY, 9, 1)], status="FAILED")
    second.ended, second.texts = 12, {"config.yaml": "lr: 1\n", "best/config.yaml": "lr: é\n"}
    return [[first, second], again(), again(status="FINISHED", ended=30)]


def again(**more: Any) -> list[Change]:
    late = [("loss", 5.0, 9, 2), ("loss", 7.0, 12, 8), ("loss", 7.0, 12, 8), ("high", 1.0, 3, 1)]
    return [
        Change("a-0", "a-0", tags={"note": "z"}, params={"lr": "0.1"}, points=late, **more),
        Change("b-1", "b-1", status="RUNNING"),
    ]


def tell(writer: Any) -> None:
    ids: dict[str, str] = {}
    for batch in changes():
        for change in batch:
            change.run = ids.get(change.name)
        writer.write(batch)
        ids |= {change.name: str(change.run) for change in batch}


def content(path: Path) -> dict[str, set[tuple[Any, ...]]]:
    """The rows of each table, with a run's name in place of its id."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(path)) as database:
        names = dict(database.execute("SELECT run_uuid, name FROM runs"))
        for table, columns in COLUMNS.items():
            rows = database.execute(f"SELECT {', '.join(columns.split())} FROM {table}")
            found[table] = {tuple(named(value, names) for value in row) for row in rows}
    return found


def named(value: Any, names: dict[str, str]) -> Any:
    for run, name in names.items() if isinstance(value, str) else ():
        value = value.replace(run, name)
    return value


def test_the_same_rows_as_the_client_and_the_same_files(
    store: tuple[MlflowClient, str, Rows], home: Path
) -> None:
    client, experiment, writer = store
    tell(writer)
    ours, files = content(home / "mlflow.db"), artifacts(client, experiment)
    for run in client.search_runs([experiment]):
        client._tracking_client.store._hard_delete_run(run.info.run_id)
    tell(Calls(client, experiment))
    theirs = content(home / "mlflow.db")
    assert {table: len(rows) for table, rows in theirs.items()} == {
        "runs": 2,
        "tags": 4,
        "params": 2,
        "metrics": 7,
        "latest_metrics": 3,
    }
    assert ours == theirs
    assert artifacts(client, experiment) == files


def artifacts(client: MlflowClient, experiment: str) -> dict[tuple[str, str], bytes]:
    found = {}
    for run in client.search_runs([experiment]):
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        for path in (p for p in folder.rglob("*") if p.is_file()):
            found[run.info.run_name, str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_one_transaction_for_many_runs_and_nothing_of_it_if_it_fails(
    store: tuple[MlflowClient, str, Rows], home: Path
) -> None:
    _, _, writer = store
    commits: list[object] = []
    event.listen(writer.engine, "commit", commits.append)
    writer.write([Change(name=str(n), points=[("loss", 1.0, n, 1)]) for n in range(50)])
    assert len(commits) == 1
    before, broken = content(home / "mlflow.db"), Change(name="new", tags={"key": None})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        writer.write([broken])
    assert broken.run is None and content(home / "mlflow.db") == before


def test_other_tables_than_those_that_are_known_are_left_to_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tables() is not None
    monkeypatch.setitem(COLUMNS, "runs", COLUMNS["runs"].replace(" deleted_time", ""))
    assert tables() is None
