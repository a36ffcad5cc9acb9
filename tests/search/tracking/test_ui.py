"""What people see: tables that fit a terminal, and the way to the MLflow UI."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.paths import ROOT
from support.specs import make_spec

from search.errors import BadInput
from search.history.book import Book
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import FORMAT
from search.spec.space import choice_of
from search.tracking.ui import recorded_in, serve
from search.tracking.views import COLOURS, TAG, colour, link, view_tags
from search.watch.shown import show_list, show_result, show_status, show_trials

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")


@pytest.fixture
def book() -> Book:
    """A complete search with a long name and numbers of every width."""
    spec = make_spec(name="a-rather-long-name-of-a-search")
    events: list[dict[str, Any]] = [
        {"event": "start", "search": f"{spec.name}-0a1b2c", "spec": spec.model_dump(mode="json")}
    ]
    for number in range(8):
        name = OPTIMIZERS[number % 4]
        resolved = spec.trial.resolve(optimizer={"type": name, "lr": 1.2345e-5})
        chosen, config = choice_of(resolved, spec.space), resolved.model_dump(mode="json")
        ask = {"stage": "search", "chosen": chosen, "config": config, "baseline": False}
        report = {
            "step": 1_000_000,
            "samples": 128,
            "val_loss": 0.123456 + number,
            "steps_per_second": 12345.6,
            "optimizer_bytes": 8000,
            "peak_memory_bytes": 1 << 30,
            "parameters": 1000,
        }
        state = "complete" if number < 5 else "diverged"
        events += [
            {"event": "ask", "trial": number, **ask},
            {"event": "report", "trial": number, "metrics": report},
            {"event": "end", "trial": number, "state": state, "why": None, "again": False},
        ]
    events.append({"event": "finish", "state": "complete", "why": "trials"})
    book = Book()
    for event in events:
        book.apply({"time": 0, "format": FORMAT} | event)
    return book


@pytest.fixture
def folder(home: Path, book: Book) -> Folder:
    """The folder of that search."""
    folder = Folder(home / book.id)
    folder.path.mkdir(parents=True)
    return folder


def shown(width: int, show: Any) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=width))
    return stream.getvalue()


def test_the_result_fits_80_columns_with_nothing_cut(book: Book, folder: Folder) -> None:
    text = shown(80, lambda console: show_result(folder, book, console))
    table = text.partition("Report: ")[0]
    assert "…" not in text
    assert all(len(line) <= 80 for line in table.splitlines())
    for word in ("optimizer", "trials", "diverged", "val_loss", "its lr", "steps/s", "rmsprop"):
        assert word in table
    for value in ("0.1235", "1.2e-05", "12345.6", "8.0"):
        assert value in table


def test_the_next_commands_can_be_copied_whole(book: Book, folder: Folder) -> None:
    text = shown(40, lambda console: show_result(folder, book, console))
    for command in (f"diffsweep trials {book.id} ", f"diffsweep train {folder.best}/config.yaml "):
        assert command in text


def test_the_other_tables_fit_80_columns_too(book: Book) -> None:
    row = {
        "trial": 123,
        "optimizer": "rmsprop",
        "state": "complete",
        "stage": "confirm",
        "step": 1_000_000,
        "val_loss": 0.123456,
        "config": {
            "optimizer": {"type": "rmsprop", "lr": 1.2345e-5},
            "lr_schedule": "inv_sqrt",
            "clip_norm": 0.1,
        },
    }
    top = {"trial": 123, "optimizer": "rmsprop", "val_loss": 0.123456}
    listed = {"id": book.id, "state": "interrupted", "trials": 400, "best": top}
    counts = {"trials": 1, "complete": 1, "pruned": 0, "diverged": 0, "best": top}
    status = {
        "id": book.id,
        "state": "complete",
        "trials": {"complete": 1},
        "optimizers": dict.fromkeys(OPTIMIZERS, counts),
        "best": top,
        "budget": {"trials": {"used": 1, "of": 1}, "wall_clock": {"used": 3.0, "of": None}},
        "seconds_left": None,
    }
    started = {"started": "2026-01-01T12:00:00+00:00"}
    for text, words in (
        (shown(80, lambda c: show_trials(c, [row])), ("rmsprop-123", "1000000", "inv_sqrt")),
        (shown(80, lambda c: show_list(c, [listed | started])), ("interrupted", "rmsprop-123")),
        (shown(80, lambda c: show_status(c, status)), ("stopped", "0.1235", "rmsprop")),
    ):
        assert "…" not in text
        assert all(len(line) <= 80 for line in text.splitlines())
        for word in words:
            assert word in text


def test_views_are_stored_as_mlflow_reads_them() -> None:
    for key, value in view_tags("min").items():
        assert key.startswith(TAG)
        view = json.loads(value)
        assert set(view) == {"name", "createdAt", "updatedAt", "state"}
        assert len(value) < 5000  # what MLflow holds in a tag of an experiment
        packed = view["state"].removeprefix("deflate;")
        state = json.loads(zlib.decompress(base64.b64decode(packed)))
        assert state["orderByKey"] == "metrics.`val_loss`" and state["orderByAsc"] is True
        charts = [chart["uuid"] for chart in state["compareRunCharts"]]
        assert len(set(charts)) == len(charts)


def test_each_optimizer_has_a_colour_of_its_own() -> None:
    colours = [colour(name, list(OPTIMIZERS)) for name in OPTIMIZERS]
    assert len(set(colours)) == 4 and set(colours) <= set(COLOURS)


def test_the_ui_links_the_newest_search_of_each_experiment(home: Path) -> None:
    for search, experiment in (("a-000001", "1"), ("b-000002", "2"), ("a-000003", "1")):
        folder = Folder(home / search)
        folder.path.mkdir(parents=True)
        folder.history.write_text("{}\n")
        content = {"offset": 0, "runs": {}, "experiment": experiment}
        folder.delivered.write_text(json.dumps(content))
        time.sleep(0.01)  # told apart by the time of their history
    assert recorded_in(Home()) == {"a-000003": "1", "b-000002": "2"}
    assert "/#/experiments/1/runs?" in link("http://127.0.0.1:5000", "1")


def test_a_port_that_is_taken_is_named_with_another(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"--port {port}: .*; try --port {port + 1}"):
            serve(Home(), "127.0.0.1", port)


def test_records_on_another_server_are_looked_at_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(BadInput, match="look there"):
        serve(Home(), "127.0.0.1", 0)


def test_the_ui_answers_says_one_line_and_ends_on_ctrl_c(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_text("")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    ui = subprocess.Popen(
        [sys.executable, "-m", "cluster.cli", "ui", "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline and ui.poll() is None
                time.sleep(0.2)
        ui.send_signal(signal.SIGINT)
        out, err = ui.communicate(timeout=30)
    finally:
        ui.kill()
        ui.wait()
    assert [line.partition(" in a few")[0] for line in out.splitlines()] == [
        f"MLflow UI: http://127.0.0.1:{port}"
    ]
    assert err == ""
    assert (home / "ui.log").stat().st_mode & 0o777 == 0o600
