"""Services that go away while a search runs: S3, PostgreSQL, MLflow. Nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from support.killing import LONGEST, SPEC, begin, check_nothing_lost, output, wait_for_history
from support.services import BUCKET, S3, Mlflow, Postgres

from search.history.folder import Folder
from search.history.home import Home
from search.history.log import events, read_book

OUTAGE = 60.0  # seconds
STEPS = 400  # long enough for an outage to fall into the training


@pytest.fixture
def own_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """One that a test may kill."""
    (tmp_path / "s3").mkdir()
    server = S3(tmp_path / "s3")
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.kill()


@pytest.fixture
def mlflow(own_s3: S3, postgres: Postgres, tmp_path: Path) -> Iterator[Mlflow]:
    """A server on PostgreSQL that keeps artifacts in S3; clients have no keys of S3."""
    server = Mlflow(tmp_path, postgres.uri, f"s3://{BUCKET}/mlflow", own_s3.environment)
    server.start()
    yield server
    server.kill()


Search = Callable[..., tuple[Path, Popen[bytes]]]


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Search]:
    """Begins a search with these keys of the spec; its driver does not outlive the test."""
    begun: list[Popen[bytes]] = []

    def search(**keys: Any) -> tuple[Path, Popen[bytes]]:
        spec, home = tmp_path / "spec.yaml", tmp_path / "home"
        lines = "".join(f"{key}: {value}\n" for key, value in keys.items())
        spec.write_text(SPEC.replace("steps: 64", f"steps: {STEPS}") + lines)
        begun.append(begin(home, "run", str(spec)))
        wait_for_history(home, begun[0])
        return home, begun[0]

    yield search
    for process in begun:
        process.kill()
        process.wait()


def reports(home: Path) -> int:
    (folder,) = Home(home).searches()
    return sum(event["event"] == "report" for event in events(folder.history))


def wait_until(ready: Callable[[], bool], home: Path, process: Popen[bytes]) -> None:
    deadline = time.monotonic() + LONGEST
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, output(home)
        time.sleep(0.2)


def ended(home: Path, process: Popen[bytes]) -> Folder:
    assert process.wait(2 * LONGEST) == 0, output(home)
    (folder,) = Home(home).searches()
    return folder


@pytest.mark.timeout(1200)
def test_s3_away_for_a_minute(own_s3: S3, search: Search, tmp_path: Path) -> None:
    home, process = search(storage=f"s3://{BUCKET}/{tmp_path.name}")
    wait_until(lambda: reports(home) >= 4, home, process)
    own_s3.kill()
    time.sleep(OUTAGE)
    told = output(home)
    own_s3.start()
    folder = ended(home, process)
    assert "storage away for" in told
    check_nothing_lost(home, folder)
    begun = [e["trial"] for e in events(folder.history) if e["event"] == "begin"]
    assert read_book(folder.history).sessions == 1 and len(begun) >= len(set(begun))
    assert not [t for t in read_book(folder.history).trials.values() if t.state == "failed"]


@pytest.mark.timeout(1200)
def test_s3_away_for_good_then_back_for_a_resume(
    own_s3: S3, search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFSWEEP_STORAGE_PATIENCE", "20")
    home, process = search(storage=f"s3://{BUCKET}/{tmp_path.name}")
    wait_until(lambda: reports(home) >= 4, home, process)
    own_s3.kill()
    assert process.wait(LONGEST) == 1, output(home)
    assert "infrastructure: the storage is away" in output(home)
    (folder,) = Home(home).searches()
    book = read_book(folder.history)
    assert book.state == "interrupted" and "infrastructure" in str(book.why)
    assert "failed" not in book.counts() and "diverged" not in book.counts()
    own_s3.start()
    check_nothing_lost(home, ended(home, begin(home, "resume", folder.id)))


@pytest.mark.timeout(1200)
def test_postgresql_is_killed_and_starts_again(
    mlflow: Mlflow, postgres: Postgres, search: Search
) -> None:
    home, process = search(tracking=f"{{uri: '{mlflow.uri}'}}")
    wait_until(lambda: reports(home) >= 4, home, process)
    postgres.kill()
    time.sleep(10)
    postgres.start()
    check_nothing_lost(home, ended(home, process), mlflow.uri)


@pytest.mark.timeout(1200)
def test_mlflow_is_away_for_a_minute(mlflow: Mlflow, own_s3: S3, search: Search) -> None:
    home, process = search(tracking=f"{{uri: '{mlflow.uri}'}}")
    wait_until(lambda: reports(home) >= 4, home, process)
    mlflow.kill()
    before = reports(home)
    time.sleep(OUTAGE)
    assert reports(home) > before or process.poll() is not None  # training went on
    mlflow.start()
    check_nothing_lost(home, ended(home, process), mlflow.uri)
    client = own_s3.client()
    found = client.list_objects_v2(Bucket=BUCKET, Prefix="mlflow/")["Contents"]
    assert any(entry["Key"].endswith("/config.yaml") for entry in found)
