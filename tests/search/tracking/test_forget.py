"""What `rm` leaves behind, and what searches say of themselves when they have ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from rich.console import Console
from support.books import Writer, curve

from cluster.cli import cli
from search.errors import BadInput
from search.history.folder import Folder
from search.history.home import Home
from search.takeaway.registry import pointed_at
from search.watch.operate import ask_driver, remove
from search.watch.shown import show_status
from search.watch.status import status_of


def kept(home: Path, writer: Writer) -> Folder:
    """The search of a writer as a folder of a home."""
    folder = Folder(home / "tiny-000000")
    folder.path.mkdir(parents=True)
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in writer.events))
    return folder


def searched(**keys: Any) -> Writer:
    writer = Writer(**keys)
    writer.search({"adam": 0.2})
    return writer


def test_rm_leaves_no_files_of_deleted_runs(home: Path) -> None:
    writer = searched()
    writer.finish()
    folder, place = kept(home, writer), Home(home)
    client = MlflowClient(f"sqlite:///{place.store}")
    experiment = client.create_experiment("tiny", (place.artifacts / "tiny").as_uri())
    tags = {"diffsweep.search": folder.id}
    runs = [client.create_run(experiment, tags=tags) for _ in range(2)]
    other = client.create_run(experiment, tags={"diffsweep.search": "other-000000"})
    for run in (*runs, other):
        client.log_text(run.info.run_id, "a", "a.txt")
    models = [
        client.create_logged_model(
            experiment, name="best", tags=tags, source_run_id=runs[0].info.run_id
        )
        for _ in range(2)
    ]
    (home / "model").mkdir()
    (home / "model" / "MLmodel").write_text("")
    for model in models:
        client.log_model_artifacts(model.model_id, str(home / "model"))
    client.create_registered_model("mine")
    with pointed_at(client.tracking_uri):
        client.create_model_version(
            "mine", models[1].artifact_location, model_id=models[1].model_id, tags=tags
        )
    lines = list(remove(place, folder.id, dry_run=False))
    assert "kept its model in MLflow, registered as models:/mine" in lines
    assert "deleted its 2 runs in MLflow" in lines
    left = {path.name for path in (place.artifacts / "tiny").iterdir()}
    assert left == {other.info.run_id, "models"}
    assert [path.name for path in (place.artifacts / "tiny" / "models").iterdir()] == [
        models[1].model_id
    ]
    assert [run.info.run_id for run in client.search_runs([experiment])] == [other.info.run_id]
    assert not folder.path.exists()


def test_rm_of_a_search_that_mlflow_does_not_know(home: Path) -> None:
    folder = kept(home, searched())
    lines = list(remove(Home(home), folder.id, dry_run=False))
    assert "deleted nothing in MLflow, which knows no such search" in lines
    assert not folder.path.exists()


def test_rm_deletes_nothing_while_the_server_is_away(home: Path) -> None:
    folder = kept(home, searched(tracking={"uri": "http://127.0.0.1:9"}))
    with pytest.raises(BadInput, match="does not answer"):
        list(remove(Home(home), folder.id, dry_run=False))
    assert folder.history.exists()


@pytest.mark.parametrize("arguments", [["stop"], ["cancel"], ["kill", "0"], ["rm", "--dry-run"]])
def test_what_steers_a_search_answers_in_json(home: Path, arguments: list[str]) -> None:
    writer = searched()
    writer.finish()
    folder = kept(home, writer)
    verb, *more = arguments
    result = CliRunner().invoke(cli, [verb, folder.id, *more, "-o", "json"])
    assert json.loads(result.stdout)["id"] == folder.id


def test_a_trial_that_has_ended_is_not_killed(home: Path) -> None:
    folder = kept(home, searched())
    told = ask_driver(folder, "kill", "told to end", trial=0)
    assert told == "tiny-000000: trial 0 has ended already, it is complete"
    assert not folder.requests.exists()


def text_of(folder: Folder) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        show_status(console, status_of(folder))
    return captured.get()


def test_status_says_what_was_spent_and_how_to_add_to_it(home: Path) -> None:
    writer = searched(budget={"trials": 9, "wall_clock": "10s", "gpu_hours": 2})
    writer.write("ask", trial=3, stage="search", chosen={}, baseline=False, added=True,
                 config=writer.book.trials[0].config)  # fmt: skip
    writer.write("finish", state="complete", why="wall_clock")
    folder = kept(home, writer)
    budget = status_of(folder)["budget"]
    assert budget["trials"] == {"used": 3, "of": 9}
    assert budget["gpu_hours"]["of"] == 2.0 and budget["gpu_hours"]["counts"] == "CPU"
    assert budget["gpu_hours"]["used"] >= 0
    text = text_of(folder)
    assert "of 0:00:10" in text and "of 2 CPU-hours" in text
    assert "its budget of time is spent" in text
    assert "resume tiny-000000 --wall-clock" in text


def test_why_a_trial_failed_is_shown(home: Path) -> None:
    writer = Writer()
    number = writer.trial("adam", 1e-3, curve(0.2)[:1], "running")
    why = "code: Traceback\nZeroDivisionError: [0]"
    writer.write("end", trial=number, state="failed", why=why, again=False)
    folder = kept(home, writer)
    assert "adam-0 failed: ZeroDivisionError: [0]" in text_of(folder)
    assert status_of(folder)["failed"][0]["why"] == why
    result = CliRunner().invoke(cli, ["trials", folder.id])
    assert "adam-0 failed: ZeroDivisionError: [0]" in result.output


@pytest.mark.parametrize(
    "flag", [["--gpu-hours", "-3"], ["--gpu-hours", "nan"], ["--wall-clock", "-5m"]]
)
def test_a_budget_grows_by_more_than_nothing(home: Path, flag: list[str]) -> None:
    result = CliRunner().invoke(cli, ["resume", "tiny-000000", *flag])
    assert isinstance(result.exception, BadInput)
    assert "expected more than 0" in str(result.exception)
