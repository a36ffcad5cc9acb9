"""What people do to a search that runs: through the command, on a real one."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.killing import SPEC, begin, command, output, wait_for_history
from support.specs import make_spec

from cluster.cli import cli
from search.errors import BadInput
from search.history.book import Book
from search.history.control import send, take
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import History, read_book
from search.watch.operate import chosen_from

TRIALS = 5
SLOW = (  # enough for a request to come while a trial trains
    SPEC.replace("steps: 64", "steps: 300")
    .replace("report_every: 8", "report_every: 20")
    .replace("trials: 8", f"trials: {TRIALS}")
)


def resume(home: Path, *arguments: str) -> str:
    """In a process of its own, since Ray starts in it."""
    env = {**os.environ, "DIFFSWEEP_HOME": str(home)}
    result = subprocess.run(command("resume", *arguments), capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr
    return result.stdout


def diffsweep(home: Path, *arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, env={"DIFFSWEEP_HOME": str(home)})
    assert result.exit_code == 0, result.output
    return result.stdout


def wait_until(folder: Folder, condition: Callable[[Book], bool]) -> Book:
    deadline = time.monotonic() + 200
    while not condition(book := read_book(folder.history)):
        assert time.monotonic() < deadline, f"waited too long, at {book.counts()}"
        time.sleep(0.1)
    return book


def test_a_config_that_cannot_be_trained_is_refused_where_it_is_given(
    home: Path, tmp_path: Path
) -> None:
    spec = make_spec(space={"optimizer": ["adam", "sgd"]})
    folder = Home(home).new("tiny")
    history = History(folder.history)
    history.write("start", search=folder.id, spec=spec.model_dump(mode="json"), format=1)
    history.close()
    config = spec.trial.resolve(optimizer={"type": "adam", "lr": 1e-3}, warmup={"steps": 20})
    path = tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())
    with pytest.raises(BadInput, match=r"config.yaml: can't be trained in tiny.*warmup.*1.0"):
        chosen_from(folder, path)  # a warmup that is longer than the budget


def test_requests_are_taken_in_order_and_once(home: Path) -> None:
    folder = Folder(home / "a-000000")
    folder.path.mkdir(parents=True)
    send(folder, "kill", trial=3)
    send(folder, "stop")
    (folder.requests / "0.json").write_text("")  # renamed, not written: a power cut's leavings
    (folder.requests / "1.json").write_text('{"verb": "fly"}')
    found = [(request["verb"], request.get("trial")) for request in take(folder)]
    assert found == [("kill", 3), ("stop", None)]
    assert list(take(folder)) == []


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_kill_add_stop_resume_and_rm(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "spec.yaml"
    spec.write_text(SLOW + f"notify: touch {tmp_path}/told\n")
    process = begin(home, "run", str(spec))
    wait_for_history(home, process)
    (folder,) = Home(home).searches()
    book = wait_until(folder, lambda b: any(t.state == "running" for t in b.trials.values()))
    victim = next(t.number for t in book.trials.values() if t.state == "running")
    diffsweep(home, "kill", folder.id, str(victim))
    wait_until(folder, lambda b: b.trials[victim].state == "cancelled")

    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(book.trials[victim].config | {"warmup": 0.25}))
    diffsweep(home, "add", folder.id, "--config", str(config))
    wait_until(folder, lambda b: any(t.added for t in b.trials.values()))
    diffsweep(home, "stop", folder.id)
    assert process.wait(200) == 0, output(home)
    book = read_book(folder.history)
    assert book.state == "stopped"
    assert (tmp_path / "told").exists()
    begun = len(book.trials)

    assert "is not running" in diffsweep(home, "stop", folder.id)
    resume(home, folder.id)
    book = read_book(folder.history)
    assert book.state == "complete" and begun < len(book.trials) == TRIALS + 1
    added = next(trial for trial in book.trials.values() if trial.added)
    assert added.state == "complete" and added.config["warmup"] == 0.25
    assert book.trials[victim].state == "cancelled"

    assert "is complete" in resume(home, folder.id)
    resume(home, folder.id, "--trials", "2")
    assert len(read_book(folder.history).trials) == TRIALS + 1 + 2

    runs = TRIALS + 1 + 2 + 1  # the search's own, too
    assert f"would delete its {runs} runs in MLflow" in diffsweep(
        home, "rm", folder.id, "--dry-run"
    )
    assert folder.path.exists()
    assert f"deleted its {runs} runs in MLflow" in diffsweep(home, "rm", folder.id)
    assert not folder.path.exists() and json.loads(diffsweep(home, "ls", "-o", "json")) == []


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_cancel_ends_at_once_and_can_be_taken_up_again(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    process = begin(home, "run", str(spec))
    wait_for_history(home, process)
    (folder,) = Home(home).searches()
    wait_until(folder, lambda b: any(t.state == "running" for t in b.trials.values()))
    diffsweep(home, "cancel", folder.id)
    assert process.wait(200) == 130, output(home)
    book = read_book(folder.history)
    assert book.state == "cancelled" and "cancelled" in book.counts()
    resume(home, folder.id)
    book = read_book(folder.history)
    assert book.state == "complete" and len(book.trials) == 8 and "cancelled" not in book.counts()
