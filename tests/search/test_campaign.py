"""What `make chaos` checks: it passes a search that is whole, and sees what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checks import Note, check_decisions, check_redone
from plans import plan
from sums import sum_up
from support.engines import run, start
from support.specs import make_spec

from search.spec.spec import SearchSpec

Events = list[dict[str, Any]]


@pytest.fixture
def lines(tmp_path: Path) -> Events:
    """The events of a search in which trials were paused, promoted and pruned."""
    path = tmp_path / "history.jsonl"
    engine = start(make_spec(space={"optimizer": ["adam", "sgd"]}, budget={"trials": 12}), path)
    run(engine)
    engine.finish()
    check_decisions(path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def index(lines: Events, **content: Any) -> int:
    """Of the first event with this content."""
    return next(
        i for i, line in enumerate(lines) if all(line.get(k) == v for k, v in content.items())
    )


def without_promotion(lines: Events) -> None:
    del lines[index(lines, event="promote")]


def paused_at_will(lines: Events) -> None:
    place = index(lines, event="promote")
    lines[place] |= {"event": "end", "state": "paused", "why": "", "again": False}


def promoted_at_will(lines: Events) -> None:
    place = index(lines, event="end", state="paused")
    lines[place] |= {"event": "promote", "full": False}


def another_config(lines: Events) -> None:
    place = index(lines, event="ask", baseline=False)
    lines[place]["chosen"]["warmup"] = 0.01


@pytest.mark.parametrize(
    ("tamper", "seen"),
    [
        (without_promotion, "without a word"),
        (paused_at_will, "the rung says promote"),
        (promoted_at_will, "the rung says pause"),
        (another_config, "proposes"),
    ],
)
def test_a_decision_that_does_not_follow_is_seen(
    tamper: Callable[[Events], None], seen: str, lines: Events, tmp_path: Path
) -> None:
    tamper(lines)
    path = tmp_path / "tampered.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(AssertionError, match=seen):
        check_decisions(path)


def notes(*said: str) -> list[Note]:
    """From "a step 3": a life, what it did, and at which step."""
    parts = [line.split() for line in said]
    return [Note(life, what, int(step), i) for i, (life, what, step) in enumerate(parts)]


def test_what_was_trained_since_the_checkpoint_is_trained_again_and_no_more() -> None:
    first = ("a step 1", "a step 2", "a saved 2", "a step 3", "a step 4", "a saved 4")
    check_redone("", notes(*first, "b restored 4", "b step 5"), 1)
    check_redone("", notes(*first, "b restored 2", "b step 3"), 1)  # while 4 was being written
    with pytest.raises(AssertionError, match=r"on from 0, though saved at \[2, 4\]"):
        check_redone("", notes(*first, "b step 1"), 1)
    late = ("b restored 2", "a step 5", "a saved 5", "b step 3")  # a was replaced, and goes on
    check_redone("", notes(*first, *late, "c restored 2"), 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_stands_for_the_same_search_each_time(seed: int) -> None:
    assert plan(seed, 10) == plan(seed, 10)
    SearchSpec.model_validate(plan(seed, 10).spec)


def test_rows_add_up_by_victim() -> None:
    row = {"resumes": 2, "seconds": 360, "wrong": None}
    rows = [
        row | {"seed": 4, "struck": [["trial", "kill"], ["s3", "freeze"]]},
        row | {"seed": 5, "struck": [["trial", "kill"]], "wrong": "a fault"},
    ]
    lines = sum_up(rows).splitlines()
    assert "| a trial's process, or one of its workers | 2 | 0 |" in lines
    assert "| the S3 server | 0 | 1 |" in lines and "| together | 2 | 1 |" in lines
    assert lines[-1] == "2 searches, seeds 4 to 5, 4 resumes, 0.2 h; not whole: 5"
