"""The history: events that survive a kill, one writer, and what they add up to."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT
from support.specs import make_spec

from search.errors import BadInput, Unreadable
from search.history.book import Book
from search.history.clock import SteadyClock
from search.history.home import Home
from search.history.lock import DriverLock
from search.history.log import FORMAT, History, events, read_book, repair
from search.watch.status import list_searches

CONFIG = {"optimizer": {"type": "adam", "lr": 0.1}, "steps": 10, "batch_size": 2}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    opened = History(path)
    yield opened
    opened.close()


def begin(history: History, trials: int = 1) -> None:
    history.write("start", search="tiny-000000", spec={"name": "tiny"}, format=FORMAT)
    for number in range(trials):
        history.write(
            "ask", trial=number, stage="search", chosen={}, config=CONFIG, baseline=False
        )


def fold(*described: dict[str, Any]) -> Book:
    book = Book()
    for event in described:
        book.apply(event)
    return book


def event(kind: str, time: int, **content: Any) -> dict[str, Any]:
    return {"event": kind, "time": time, **content}


def test_what_is_written_can_be_read_at_once(history: History, path: Path) -> None:
    begin(history)
    history.write("begin", trial=0)
    history.write("report", trial=0, metrics={"step": 5, "samples": 10, "val_loss": 0.5})
    read = read_book(path)
    assert read == history.book
    assert (read.id, read.state, read.counts()) == ("tiny-000000", "running", {"running": 1})
    assert (read.trials[0].samples, read.trials[0].last("val_loss")) == (10, 0.5)


def test_each_event_is_a_line_of_json_with_its_time(history: History, path: Path) -> None:
    begin(history)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "ask"]
    assert all(isinstance(line["time"], int) for line in lines)
    assert lines == list(events(path))


@pytest.mark.parametrize("torn", [b"{", b'{"event": "end", "trial": 0', b"\x00\x00\x00"])
def test_a_torn_last_line_is_cut_off_and_the_rest_stays(torn: bytes, path: Path) -> None:
    history = History(path)
    begin(history, trials=2)
    history.close()
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert read_book(path).counts() == {"pending": 2}  # someone who only looks on
    assert path.read_bytes() == whole + torn
    again = History(path)
    again.write("begin", trial=0)
    again.close()
    assert path.read_bytes().startswith(whole)
    assert read_book(path).counts() == {"pending": 1, "running": 1}


def test_a_history_cut_at_any_byte_is_read_up_to_its_last_whole_line(path: Path) -> None:
    history = History(path)
    begin(history)
    history.close()
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        assert len(list(events(path))) == content[:length].count(b"\n")
        repair(path)
        assert path.read_bytes() == content[: content[:length].rfind(b"\n") + 1]


def test_a_history_of_another_format_is_refused(path: Path) -> None:
    path.write_text(json.dumps(event("start", 1, search="a", spec={}, format=FORMAT + 1)) + "\n")
    with pytest.raises(BadInput, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        History(path)


def test_a_killed_writer_loses_no_event_that_it_wrote(path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from search.history.log import History\n"
        "history = History(Path(sys.argv[1]))\n"
        "history.write('start', search='a-000000', spec={}, format=1)\n"
        "history.write('finish', state='complete', why=None)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert read_book(path).state == "complete"


def test_only_one_driver_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "tiny-000000" / "driver.lock"
    path.parent.mkdir()
    assert not DriverLock.held(path)
    with DriverLock(path):
        assert DriverLock.held(path)
        with (
            pytest.raises(BadInput, match="tiny-000000: its driver is still running"),
            DriverLock(path),
        ):
            pass
        assert DriverLock.held(path)
    assert not DriverLock.held(path)
    with DriverLock(path):
        pass


def test_the_lock_of_a_killed_driver_is_free(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from search.history.lock import DriverLock\n"
        "with DriverLock(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        assert DriverLock.held(path)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert not DriverLock.held(path)


def ask(number: int, time: int, stage: str = "search") -> dict[str, Any]:
    return event(
        "ask", time, trial=number, stage=stage, chosen={}, config=CONFIG, baseline=number == 0
    )


def test_the_book_is_what_the_events_add_up_to() -> None:
    book = fold(
        event("start", 1000, search="a-000000", spec={"name": "a"}, format=1),
        ask(0, 1000),
        ask(1, 1000),
        ask(2, 1500, stage="confirm"),
        event("begin", 2000, trial=0),
        event("report", 3000, trial=0, metrics={"samples": 10, "val_loss": 1.0}),
        event("report", 4000, trial=0, metrics={"samples": 20, "val_loss": 0.5}),
        event("end", 4000, trial=0, state="complete", why=None, again=False),
        event("begin", 4000, trial=1),
        event("end", 5000, trial=1, state="failed", why="code", again=False),
        event("finish", 6000, state="complete", why="trials"),
    )
    assert book.counts() == {"pending": 1, "complete": 1, "failed": 1}
    assert [trial.number for trial in book.stage("search")] == [0, 1]
    assert (book.state, book.why, book.started, book.seconds) == ("complete", "trials", 1000, 5.0)
    first, second = book.trials[0], book.trials[1]
    assert (first.baseline, first.ended, first.seconds) == (True, 4000, 2.0)
    assert (first.last("val_loss"), first.last("nothing"), first.samples) == (0.5, None, 20)
    assert (second.why, second.samples, second.last("val_loss")) == ("code", 0, None)


def test_time_between_two_drivers_is_not_time_of_the_search() -> None:
    book = fold(
        event("start", 1000, search="a-000000", spec={}, format=1),
        ask(0, 3000),
        event("start", 100_000, search="a-000000", spec={}, format=1),
        event("begin", 101_000, trial=0),
        event("finish", 104_000, state="complete", why=None),
    )
    assert book.seconds == 2.0 + 4.0
    assert (book.started, book.sessions) == (1000, 2)


def test_a_trial_whose_driver_died_ran_until_the_last_word_of_it() -> None:
    book = fold(
        event("start", 1000, search="a-000000", spec={}, format=1),
        ask(0, 1000),
        event("begin", 2000, trial=0),
        event("report", 5000, trial=0, metrics={"samples": 10, "val_loss": 1.0}),
        event("start", 36_000_000, search="a-000000", spec={}, format=1),
    )
    assert (book.trials[0].state, book.trials[0].began) == ("running", None)
    assert book.trials[0].seconds == 3.0
    book.apply(event("begin", 36_001_000, trial=0))
    book.apply(event("begin", 36_003_000, trial=0))  # its process was lost after two seconds
    assert (book.trials[0].seconds, book.trials[0].began) == (5.0, 36_003_000)


def test_trials_are_counted_within_their_optimizer() -> None:
    book = fold(*(ask(number, 1) for number in range(3)))
    assert [trial.turn for trial in book.trials.values()] == [0, 1, 2]
    other = ask(3, 1) | {"config": CONFIG | {"optimizer": {"type": "another"}}}
    book.apply(other)
    assert book.trials[3].turn == 0


def test_a_paused_trial_runs_again_with_its_time_added_up() -> None:
    book = fold(
        event("start", 1, search="a-000000", spec={}, format=1),
        ask(0, 1),
        event("begin", 2, trial=0),
        event("end", 3, trial=0, state="paused", why="interrupted", again=False),
        event("begin", 4, trial=0),
    )
    assert (book.trials[0].state, book.trials[0].began) == ("running", 4)
    assert book.trials[0].seconds == 0.001  # of its first stretch


@pytest.mark.parametrize("damage", [b"\0\0\0\0", b"{}", b"[1]", b"half a li"])
def test_a_damaged_line_is_named_with_its_file_and_number(damage: bytes, path: Path) -> None:
    history = History(path)
    begin(history, trials=2)
    history.close()
    lines = path.read_bytes().splitlines()
    lines[1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    for read in (read_book, History):
        with pytest.raises(Unreadable, match=rf"{path}: line 2 is no event of a search"):
            read(path)


def test_every_session_is_of_a_format_that_can_be_read(path: Path) -> None:
    history = History(path)
    begin(history)
    history.write("start", search="tiny-000000", spec={}, format=FORMAT + 1)
    history.close()
    with pytest.raises(Unreadable, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        read_book(path)


def test_a_damaged_search_hides_no_other(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = [Home(home).new("tiny") for _ in range(3)]
    for folder in folders:
        history = History(folder.history)
        history.write("start", search=folder.id, spec=make_spec().model_dump(), format=FORMAT)
        history.close()
    folders[1].history.write_bytes(b"{}\n")
    rows = list_searches(Home(home))
    assert {row["id"] for row in rows} == {folders[0].id, folders[2].id}
    assert f"{folders[1].history}: line 1" in caplog.text


@pytest.mark.parametrize("size", [100, 1500, 20_000, 300_000])
def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_nothing_of_it(
    size: int, path: Path
) -> None:
    history = History(path)
    begin(history)
    before = path.read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + size // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            history.write("end", trial=0, state="failed", why="x" * size, again=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and history.book.trials[0].state == "pending"
    history.write("begin", trial=0)  # there is room again
    history.close()
    assert [event["event"] for event in events(path)] == ["start", "ask", "begin"]


def test_the_clock_of_a_session_does_not_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock()
    before = clock()
    monkeypatch.setattr("time.time", lambda: 0.0)  # set back by decades
    assert before <= clock() < before + 60


def test_time_in_a_session_counts_whatever_the_clocks_of_others_said() -> None:
    book = fold(
        event("start", 100_000, search="a", spec={}),
        event("finish", 110_000, state="interrupted", why=""),
        event("start", 50_000, search="a", spec={}),  # on a machine whose clock is behind
        event("finish", 55_000, state="interrupted", why=""),
    )
    assert book.seconds == 15


def test_a_trial_without_a_process_costs_no_time() -> None:
    asked = {"stage": "search", "chosen": {}, "config": CONFIG, "baseline": False}
    book = fold(
        event("start", 0, search="a", spec={}),
        event("ask", 0, trial=0, **asked),
        event("begin", 0, trial=0),
        event("lose", 10_000, trial=0),
        event("begin", 3_600_000, trial=0),  # its next host came after an hour
        event("end", 3_605_000, trial=0, state="complete", why=None, again=False),
    )
    assert book.trials[0].seconds == 15


def test_what_was_cut_off_is_no_rungs_to_decide_about_but_is_shown_as_paused() -> None:
    asked = {"stage": "search", "chosen": {}, "config": CONFIG, "baseline": False}
    book = fold(
        event("start", 0, search="a", spec={}),
        *(event("ask", 0, trial=number, **asked) for number in (0, 1)),
        event("end", 1, trial=0, state="paused", why="a rung", again=False),
        event("end", 1, trial=1, state="paused", why="interrupted", again=True),
    )
    assert [(t.state, t.shown) for t in book.trials.values()] == [
        ("paused", "paused"),
        ("cut", "paused"),
    ]
    assert book.counts() == {"paused": 2}
