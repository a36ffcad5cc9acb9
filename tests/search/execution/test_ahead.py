"""What is done while a slot is idle: each thing once, and only for a best that stays the best."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.books import Writer, curve

from search.execution import ahead
from search.execution.ahead import Ahead, known
from search.history.folder import Folder


def test_the_best_is_known_when_only_winners_are_trained_again() -> None:
    writer = Writer(confirm={"seeds": 2})
    assert known(writer.book) is None
    first = writer.trial("adam", 1e-3, curve(0.2))
    running = writer.trial("sgd", 1e-1, curve(0.3)[:1], "running")
    assert known(writer.book) is None  # it may still be better
    writer.write("end", trial=running, state="pruned", why=None, again=False)
    confirming = writer.trial("adam", 1e-3, curve(0.1)[:1], "running", seed=1, source=first)
    best = known(writer.book)
    assert best is not None and best.number == first != confirming


def test_each_thing_is_done_once_and_what_fails_is_left_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, done, tried = Writer(), [], threading.Event()

    def fail(folder: Folder, number: int) -> None:
        done.append((number, threading.current_thread().name))
        tried.set()
        raise OSError("disk full")

    monkeypatch.setattr(ahead, "IMPORTS", ("no.such.module",))
    monkeypatch.setattr(ahead, "trace", fail)
    with Ahead(Folder(tmp_path), writer.book) as work:
        work()
        work()
        assert done == []  # nothing is complete yet
        number = writer.trial("adam", 1e-3, curve(0.2))
        work()
        work()
        writer.trial("sgd", 1e-1, curve(0.1))  # one that was added: the end sees to it
        work()
        assert tried.wait(10)
    assert done == [(number, "ahead_0")]
