"""What a search takes from earlier ones, and what it says of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.books import LRS, Writer, curve

from search.engine.warm_start import import_trials, refusal
from search.history.folder import Folder
from search.history.log import History
from search.spec.spec import SearchSpec

SPEC = Writer().spec


@pytest.fixture
def earlier(tmp_path: Path) -> Folder:
    """A search with two trials that ended, one that is at work, and one that failed."""
    writer = Writer()
    writer.trial("adam", 1e-3, curve(0.5))
    writer.trial("sgd", 0.1, curve(0.6)[:2], "pruned")
    writer.trial("adam", 3e-3, curve(0.5)[:1], "running")
    writer.trial("rmsprop", 1e-3, [], "failed")
    folder = Folder(tmp_path / "tiny-000000")
    folder.history.parent.mkdir()
    history = History(folder.history)
    for event in writer.events:
        content = {key: value for key, value in event.items() if key not in ("event", "time")}
        history.write(event["event"], **content)
    history.close()
    return folder


def test_trials_that_ended_are_taken_and_the_rest_is_told(
    earlier: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = import_trials(SPEC, [earlier], Console(width=200), "same")
    assert [(t["number"], t["chosen"]["optimizer"]) for t in taken] == [(-1, "adam"), (-2, "sgd")]
    assert "2 trials taken, 1 left out: running, 1 left out: failed" in capsys.readouterr().out


def test_an_optimizer_that_is_not_searched_is_left_out(earlier: Folder) -> None:
    names = {name: {} for name in LRS if name != "sgd"}
    spec = Writer(space={"optimizer": names}).spec
    assert [t["chosen"]["optimizer"] for t in import_trials(spec, [earlier], Console(), "")] == [
        "adam"
    ]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"objective": {"metric": "val_loss_q1"}}, "its objective is another"),
        ({"trial": {"steps": 32}}, "another budget of samples"),
        ({"trial": {"precision": "bf16"}}, "trial.precision is fp32 there and bf16 here"),
        ({"trial": {"freeze": ["enter.*"]}}, "trial.freeze is"),
    ],
)
def test_a_search_of_another_task_is_refused(keys: dict[str, Any], why: str) -> None:
    book, trial = Writer().book, SPEC.trial.model_dump() | keys.get("trial", {})
    other = SearchSpec.model_validate(SPEC.model_dump() | keys | {"trial": trial})
    assert refusal(SPEC, book, "same") is None
    assert why in str(refusal(other, book, "same"))


def test_a_search_of_other_examples_is_refused() -> None:
    book = Writer().book
    book.origin = {"data": "these"}
    assert refusal(SPEC, book, "these") is None
    assert refusal(SPEC, book, "those") == "its data had other examples"
