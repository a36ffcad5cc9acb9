"""The log of a search and of a trial, made of its history and of what its processes printed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from search.errors import BadInput
from search.execution.words import Stamped
from search.history.folder import Folder
from search.history.log import History
from search.watch.logs import Line, as_they_come, follow, log_lines
from trainable.actor.output import NAME

CONFIG = {"optimizer": {"type": "adam", "lr": 1e-3}, "steps": 10, "batch_size": 1}


@pytest.fixture
def folder(home: Path) -> Folder:
    folder = Folder(home / "a-000000")
    folder.path.mkdir(parents=True)
    history = History(folder.history, clock=lambda: 1_700_000_000.0)
    history.write("start", search=folder.id, spec={}, job=folder.id)
    for number in range(2):
        asked = {"stage": "search", "chosen": {}, "config": CONFIG, "baseline": False}
        history.write("ask", trial=number, **asked)
        history.write("begin", trial=number)
    history.write("report", trial=1, metrics={"step": 5, "samples": 5, "val_loss": 0.25})
    history.write("end", trial=1, state="failed", why="code: Boom", again=False)
    history.write("finish", state="complete", why="")
    history.close()
    return folder


def test_a_search_is_told_from_its_beginning_to_its_end(folder: Folder) -> None:
    folder.log.write_text("2023-11-30 00:00:00 Tune says this\nand this\n")
    lines = [line.text for line in log_lines(folder)]
    assert lines[0] == "search a-000000 begins as job a-000000"
    assert "adam-1 step 5: val_loss 0.2500" in lines
    assert "adam-1 is failed: code: Boom" in lines
    assert lines[-3:] == ["search a-000000 is complete", "Tune says this", "and this"]


def test_a_trial_has_its_own_lines_with_what_it_printed(folder: Folder) -> None:
    path = folder.trial(1) / NAME
    path.parent.mkdir(parents=True)
    path.write_text("2023-11-30 00:00:00 process 7 takes this trial\nhello\n")
    texts = [line.text for line in log_lines(folder, 1)]
    assert texts[0] == "adam-1 is proposed, lr 0.001"
    assert texts[-2:] == ["process 7 takes this trial", "hello"]
    assert not any("adam-0" in text for text in texts)
    with pytest.raises(BadInput, match="has no trial 9"):
        log_lines(folder, 9)


def test_following_a_search_that_has_ended_shows_each_line_once(folder: Folder) -> None:
    assert list(follow(folder, None)) == log_lines(folder)


def test_lines_that_come_late_and_equal_ones_are_shown_once_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    a, b, c = (Line("2023-11-30 00:00:00", "trial", text) for text in "abc")
    looks, runs = iter([[a, c], [a, b, c], [a, b, c, c]]), iter([True, True, False])
    assert list(as_they_come(lambda: next(looks), lambda: next(runs))) == [a, c, b, c]


def test_each_line_of_the_drivers_log_has_its_time() -> None:
    file = io.StringIO()
    log = Stamped(file)
    for text in ("a half", " line\nand another", "\n"):
        log.write(text)
    first, second = file.getvalue().splitlines()
    assert first[:2] == "20" and first.endswith(" a half line") and second.endswith(" and another")
