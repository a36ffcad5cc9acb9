"""The live line: what it says, and that it goes on while the driver writes."""

from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console
from support.books import whole

from search.history.log import History
from search.watch.progress import Progress


def test_the_line_lives_while_trials_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    history = History(None, lambda: 1000.0)
    history.book = whole()
    known = history.book.trials[0]
    asked = {"stage": "search", "chosen": known.chosen, "config": known.config}
    console = Console(file=io.StringIO(), force_terminal=True)
    progress = Progress(history, console)
    looked = threading.Thread(target=lambda: [progress.line() for _ in range(200)])
    looked.start()
    while looked.is_alive():
        history.write("ask", trial=len(history.book.trials), baseline=False, **asked)
        time.sleep(0.0005)
    assert not died
