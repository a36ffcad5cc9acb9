"""The embedded store, made whole or not at all.

MLflow makes its tables in dozens of steps, and can't go on from the middle of one. So a driver
that was killed meanwhile would leave a home whose store takes nothing any more.
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from search.history.home import Home
from trainable.base.durable import DRAFT, settle


def make_store(home: Home) -> None:
    """Make the store of a home, if it has none."""
    with (home.path / ".mlflow.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several drivers at once
        if has_tables(home.store):
            return
        for left in home.path.glob(f".{home.store.name}{DRAFT}*"):
            left.unlink()
        draft = home.path / f".{home.store.name}{DRAFT}{secrets.token_hex(4)}"
        make_tables(draft, home.artifacts)
        draft.replace(home.store)
        settle(home.path)


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
