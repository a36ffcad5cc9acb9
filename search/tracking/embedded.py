"""The embedded store, made whole or not at all.

MLflow makes its tables in dozens of steps, and can't go on from the middle of one. So a driver
that was killed meanwhile would leave a home whose store takes nothing any more.
"""

from __future__ import annotations

import fcntl
import logging
import re
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from search.history.home import Home
from trainable.base.durable import DRAFT, settle

ADDRESSES = (  # columns that hold places of artifacts
    *(("experiments", "artifact_location"), ("runs", "artifact_uri")),
    *(("logged_models", "artifact_location"), ("model_versions", "source")),
    ("model_versions", "storage_location"),
)


def make_store(home: Home) -> None:
    """Make the store of a home, if it has none; one that was moved is told where it is now."""
    with (home.path / ".mlflow.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several drivers at once
        if has_tables(home.store):
            follow(home)
            return
        for left in home.path.glob(f".{home.store.name}{DRAFT}*"):
            left.unlink()
        draft = home.path / f".{home.store.name}{DRAFT}{secrets.token_hex(4)}"
        make_tables(draft, home.artifacts)
        draft.replace(home.store)
        settle(home.path)


def follow(home: Home) -> None:
    """Have the artifacts of a home that was moved, or copied, lie where the home is now.

    MLflow keeps the whole address of each experiment's and run's.
    """
    here = home.artifacts.as_uri()
    with closing(sqlite3.connect(home.store, timeout=30)) as database, database:
        known = database.execute("SELECT artifact_location FROM experiments")
        places = {str(place).rpartition("/")[0] for (place,) in known}
        places = {place for place in places if re.fullmatch(r"file:.*/artifacts", place)}
        for old in places - {here}:
            for table, column in ADDRESSES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                    f"WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def has_tables(store: Path) -> bool:
    """Whether MLflow made it. One that was only looked at is an empty file."""
    if not store.exists():
        return False
    with closing(sqlite3.connect(store)) as database:
        (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return bool(count)


def make_tables(path: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
        f"sqlite:///{path}", artifacts.as_uri()
    )
    store.engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")  # so that all of it is in the one file
