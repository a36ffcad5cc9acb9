"""The embedded store: whole or not there, whoever is killed while it is made."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.history.home import Home
from search.tracking import embedded
from search.tracking.embedded import has_tables, make_store

MAKE = "from search.history.home import Home; from search.tracking.embedded import make_store; "


@pytest.mark.ray  # no Ray, but seconds of MLflow
@pytest.mark.filterwarnings("ignore")  # of what MLflow imports
def test_a_store_whose_maker_was_killed_is_made_by_the_next(home: Path) -> None:
    found = Home()
    found.prepare()
    found.store.touch()  # as looking whether it can be written leaves it
    maker = subprocess.Popen([sys.executable, "-c", MAKE + "make_store(Home())"])
    while not any(path.stat().st_size > 100_000 for path in home.glob(".mlflow.db.draft-*")):
        assert maker.poll() is None
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)  # in the middle of MLflow's steps
    maker.wait()
    assert not has_tables(found.store)
    make_store(found)
    client = MlflowClient(found.store_uri)
    assert client.create_experiment("tiny") and has_tables(found.store)
    assert sorted(path.name for path in home.iterdir()) == [".mlflow.lock", "mlflow.db"]


def test_a_store_that_is_there_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Home()
    found.prepare()
    monkeypatch.setattr(embedded, "make_tables", lambda path, _: path.write_bytes(b""))
    monkeypatch.setattr(embedded, "follow", lambda _: None)
    make_store(found)
    assert found.store.exists()
    monkeypatch.setattr(embedded, "has_tables", lambda _: True)
    monkeypatch.setattr(embedded, "make_tables", None)
    make_store(found)
