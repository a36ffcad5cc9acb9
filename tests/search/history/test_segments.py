"""The history in storage: what is there before it is acted on, and two drivers kept apart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from support.paths import ROOT
from support.services import BUCKET, S3
from support.specs import make_spec
from support.stored import history_in

from search.errors import BadInput, Fenced, SearchFailed, StorageAway
from search.history import lease
from search.history.control import send, take
from search.history.folder import Folder
from search.history.home import Home, refresh
from search.history.lease import LEASE, STALE, driving, is_driven
from search.history.log import FORMAT, read_book
from search.history.pieces import HISTORY, name_of
from search.history.pulling import Position, known, pull
from search.history.segments import Segments
from search.history.shipping import get_code, moved, put_code
from search.tracking.recorder import delivered, experiment_of
from search.watch.status import open_book
from trainable.base.folder import FolderStorage
from trainable.base.storage import StorageError

ID = "tiny-00000a"


@pytest.fixture
def shared(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path / "shared"))


@pytest.fixture
def machine(tmp_path: Path, shared: FolderStorage) -> Callable[[str], Folder]:
    """The search's folder as a machine of this name has it, in a home of its own."""

    def folder(name: str) -> Folder:
        folder = Folder(tmp_path / name / ID)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.storage_uri.write_text(shared.uri)
        return folder

    return folder


def start(history: Any) -> None:
    spec = make_spec().model_dump(mode="json")
    history.write("start", search=ID, spec=spec, format=FORMAT)


def ask(history: Any, number: int) -> None:
    config = {"optimizer": {"type": "adam"}, "steps": 4, "batch_size": 2}
    history.write("ask", trial=number, stage="search", chosen={}, config=config, baseline=False)


def report(history: Any, samples: int) -> None:
    history.write(
        "report", trial=0, metrics={"samples": samples, "step": samples, "val_loss": 1.0}
    )


def in_storage(shared: FolderStorage) -> list[dict[str, Any]]:
    return [json.loads(line) for line in history_in(shared.sub(ID)).splitlines()]


Machine = Callable[[str], Folder]


def test_a_decision_is_in_storage_when_write_returns(
    machine: Machine, shared: FolderStorage
) -> None:
    with driving(machine("one")) as history:
        start(history)
        assert [event["event"] for event in in_storage(shared)] == ["start"]
        ask(history, 0)
        assert [event["event"] for event in in_storage(shared)] == ["start", "ask"]
    other = machine("other")
    refresh(other)
    assert read_book(other.history) == history.book


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The kinds of the events in each segment, as they are written."""
    kinds: list[list[str]] = []
    create = FolderStorage.create

    def noted(storage: FolderStorage, name: str, content: bytes) -> None:
        create(storage, name, content)
        if name.startswith(HISTORY) and name.endswith(".jsonl"):
            kinds.append([json.loads(line)["event"] for line in content.splitlines()])

    monkeypatch.setattr(FolderStorage, "create", noted)
    return kinds


def test_what_is_only_seen_waits_for_a_decision(
    machine: Machine, written: list[list[str]]
) -> None:
    with driving(machine("one")) as history:
        start(history)
        ask(history, 0)
        history.write("begin", trial=0)
        for samples in range(1, 9):
            report(history, samples)
        history.write("end", trial=0, state="complete", why=None, again=False)
        history.write("begin", trial=0)
    assert written == [["start"], ["ask"], ["begin", *["report"] * 8, "end"], ["begin"]]


def test_what_is_only_seen_does_not_wait_for_long(
    machine: Machine, written: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.segments.PERIOD", 1.0)
    with driving(machine("one")) as history:
        start(history)
        ask(history, 0)
        report(history, 1)
        report(history, 2)
        while len(written) < 3:
            time.sleep(0.01)
        assert written[2:] == [["report", "report"]]
        monkeypatch.setattr("search.history.segments.PERIOD", 3600.0)
        for samples in range(3, 600):  # nor where it is much
            report(history, samples)
        while len(written) < 4:
            time.sleep(0.01)


def test_decisions_that_are_made_together_are_one_segment(
    machine: Machine, shared: FolderStorage, written: list[list[str]]
) -> None:
    with driving(machine("one")) as history:
        told: list[str] = []
        history.tell = lambda event: told.append(event["event"])
        history.gather()
        start(history)
        ask(history, 0)
        ask(history, 1)
        assert (told, len(history.book.trials)) == ([], 2)  # it counts, and nobody hears of it
        history.settle()
        assert written == [["start", "ask", "ask"]] and told == written[0]
        history.gather()
        history.settle()
        ask(history, 2)
    assert len(in_storage(shared)) == 4


def test_the_working_copy_on_another_machine_follows(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    with driving(one) as history:
        start(history)
        refresh(other)
        assert known(other).segments == 1
        ask(history, 0)
        refresh(other)
        assert other.history.read_bytes() == one.history.read_bytes()


def test_while_a_driver_lives_another_machine_is_refused(machine: Machine) -> None:
    with driving(machine("one")) as history:
        start(history)
        other = machine("other")
        refresh(other)
        assert is_driven(other) and open_book(other).state == "running"
        with (
            pytest.raises(BadInput, match=f"{ID}: its driver is still running, on "),
            driving(other),
        ):
            pass
    assert not is_driven(other)
    assert open_book(other).state == "interrupted"
    with driving(other) as history:
        ask(history, 0)
    assert history.book.counts() == {"pending": 1}


def test_a_driver_that_comes_back_after_another_took_over_stops(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machine("one"), machine("other")
    monkeypatch.setattr("search.history.lease.BEAT", 3600.0)  # `one` is cut off: it renews nothing
    with pytest.raises(Fenced, match="another driver"), driving(one) as history:
        start(history)
        monkeypatch.setattr("search.history.lease.STALE", -1.0)  # and its lease is old by now
        with driving(other) as second:
            start(second)
            ask(second, 0)
            ask(history, 0)  # back again, it decides otherwise
    assert [event["event"] for event in in_storage(shared)] == ["start", "start", "ask"]
    assert read_book(one.history).sessions == 1
    pull(one)  # the storage is right; what `one` had of its own is set aside
    assert one.history.read_bytes() == other.history.read_bytes()
    (kept,) = one.path.glob("history.cut-off-*")
    assert json.loads(kept.read_bytes())["event"] == "ask"


def test_a_driver_without_decisions_learns_from_its_lease(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.lease.BEAT", 0.05)
    one = machine("one")
    with pytest.raises(Fenced, match="taken it over"), driving(one) as history:
        start(history)
        assert one.storage is not None
        one.storage.write(LEASE, b'{"token": "another", "host": "h", "lock": "l"}')
        assert isinstance(history.mirror, Segments)
        history.mirror._thread.join(30)
        ask(history, 0)


class Outage:
    """A storage that can be switched off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off, self.tried = threading.Event(), 0
        real = FolderStorage.create

        def create(storage: FolderStorage, name: str, content: bytes) -> None:
            if self.off.is_set():
                self.tried += 1
                raise StorageError("the server does not answer")
            real(storage, name, content)

        monkeypatch.setattr(FolderStorage, "create", create)
        monkeypatch.setattr("search.history.segments.LONGEST_WAIT", 0.05)


def test_a_storage_that_comes_back_is_waited_for(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(monkeypatch)
    with driving(machine("one")) as history:
        start(history)
        outage.off.set()
        writer = threading.Thread(target=ask, args=(history, 0))
        writer.start()
        while outage.tried < 3:
            time.sleep(0.01)
        assert writer.is_alive()  # nothing is decided on what is not in storage
        told = history.waiting()
        assert told is not None and "storage away for" in told and "does not answer" in told
        outage.off.clear()
        writer.join()
        ask(history, 1)
        while history.waiting() is not None:  # told a moment later that it is back
            time.sleep(0.01)
    assert [event["event"] for event in in_storage(shared)] == ["start", "ask", "ask"]


def test_a_storage_that_stays_away_ends_the_search_and_resume_brings_it_up_to_date(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(monkeypatch)
    monkeypatch.setenv("DIFFSWEEP_STORAGE_PATIENCE", "0.2")
    one = machine("one")
    with driving(one) as history:
        start(history)
        outage.off.set()
        with pytest.raises(StorageAway, match=rf"infrastructure: .*resume {ID}"):
            ask(history, 0)
        history.check()  # said once
        history.write("finish", state="interrupted", why="storage")  # kept here
    assert [event["event"] for event in in_storage(shared)] == ["start"]
    outage.off.clear()
    with driving(one) as history:
        assert history.book.counts() == {"pending": 1}
        start(history)
    told = [event["event"] for event in in_storage(shared)]
    assert told == ["start", "ask", "finish", "start"]


def test_a_driver_that_decides_nothing_learns_that_the_storage_is_gone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.segments.PERIOD", 0.1)
    outage = Outage(monkeypatch)
    monkeypatch.setenv("DIFFSWEEP_STORAGE_PATIENCE", "0.1")
    with driving(machine("one")) as history:
        start(history)
        ask(history, 0)
        history.check()
        outage.off.set()
        report(history, 1)  # all that happens; trials that can't save wait for the storage too
        assert isinstance(history.mirror, Segments)
        history.mirror._thread.join(30)
        with pytest.raises(StorageAway):
            history.check()


def test_a_lost_answer_is_no_second_driver(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = FolderStorage.create, []

    def create(storage: FolderStorage, name: str, content: bytes) -> None:
        real(storage, name, content)
        if name.startswith(HISTORY) and len(lost) < 2:
            lost.append(name)
            raise StorageError("the answer was lost")

    monkeypatch.setattr(FolderStorage, "create", create)
    with driving(machine("one")) as history:
        start(history)
        ask(history, 0)
    assert [event["event"] for event in in_storage(shared)] == ["start", "ask"]
    assert lost == [name_of(1), name_of(2)]


@pytest.mark.parametrize("torn", [b"", b'{"event": "as', b'{"event": "other"}\n'])
def test_a_working_copy_that_lags_or_differs_is_mended(
    torn: bytes, machine: Machine, shared: FolderStorage
) -> None:
    one = machine("one")
    with driving(one) as history:
        start(history)
        ask(history, 0)
    whole = one.history.read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    one.history.write_bytes(first + torn)
    one.pulled.write_text(json.dumps([1, len(first)]))
    pull(one)
    assert one.history.read_bytes() == whole
    assert len(list(one.path.glob("history.cut-off-*"))) == (b"other" in torn)


def test_a_missing_segment_is_told(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.pulling.WAITS", (0.0, 0.1))
    with driving(machine("one")) as history:
        start(history)
        ask(history, 0)
        ask(history, 1)
    shared.sub(ID).delete(name_of(2))
    with pytest.raises(SearchFailed, match=r"00000002.jsonl is missing"):
        pull(machine("other"))


def test_a_killed_driver_of_this_machine_is_known_to_be_dead(
    machine: Machine, shared: FolderStorage
) -> None:
    one = machine("one")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from search.history.folder import Folder\n"
        "from search.history.lease import driving\n"
        "with driving(Folder(Path(sys.argv[1]))) as history:\n"
        f"    history.write('start', search='{ID}', spec={{}}, format=1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(one.path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert shared.sub(ID).age(LEASE) < STALE  # type: ignore[operator]
    assert not is_driven(one)
    assert is_driven(machine("other"))  # where only the lease can tell
    with driving(one) as history:
        assert history.book.sessions == 1


def test_requests_reach_a_driver_on_another_machine(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.lease.BEAT", 0.05)
    one, other = machine("one"), machine("other")
    send(other, "kill", trial=3)  # nobody drives yet
    with driving(one) as history:
        start(history)
        assert [(r["verb"], r["trial"]) for r in take(one)] == [("kill", 3)]
        send(other, "stop")
        found: list[dict[str, Any]] = []
        while not found:
            found = list(take(one))
        assert [request["verb"] for request in found] == ["stop"]
    assert shared.sub(ID).names("requests/") == []  # taken up once
    with driving(other):
        assert list(take(other)) == []


def test_the_users_code_is_brought_to_where_it_is_not(machine: Machine, tmp_path: Path) -> None:
    code = tmp_path / "modules"
    (code / "mine/__pycache__").mkdir(parents=True)
    (code / "mine/nets.py").write_text("WIDTH = 8\n")
    (code / "mine/__pycache__/nets.pyc").write_bytes(b"x")
    one, other = machine("one"), machine("other")
    put_code(one, (str(code),))
    assert get_code(one) == {}  # it is where it was
    code.rename(tmp_path / "gone")
    places = get_code(other)
    (place,) = places.values()
    assert (Path(place) / "mine/nets.py").read_text() == "WIDTH = 8\n"
    assert not (Path(place) / "mine/__pycache__").exists()
    assert moved({"code": [str(code), "/else"], "steps": 1}, places) == {
        "code": [place, "/else"],
        "steps": 1,
    }
    put_code(other, (place,))  # a search that goes on there
    third = machine("third")
    Path(place).rename(tmp_path / "gone too")
    assert set(get_code(third)) == {str(code), place}


def test_a_search_is_found_in_storage_with_an_empty_home(
    machine: Machine, shared: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driving(machine("one")) as history:
        start(history)
    shared.write("not a search/x", b"")
    monkeypatch.setenv("DIFFSWEEP_STORAGE", shared.uri)
    for name in (ID, "tiny"):
        home = Home(tmp_path / f"empty-{name}")
        folder = home.find(name)
        assert read_book(folder.history) == history.book and folder.storage is not None
        assert [found.id for found in home.searches()] == [ID]
    with pytest.raises(BadInput, match=f"no such search.* or {shared.uri}"):
        home.find("tiny-ffffff")
    assert [path.name for path in home.path.iterdir()] == [ID]


def test_a_folder_that_a_killed_command_left_empty_hides_no_search(
    machine: Machine, shared: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driving(machine("one")) as history:
        start(history)
    monkeypatch.setenv("DIFFSWEEP_STORAGE", shared.uri)
    for number, look in enumerate((lambda home: home.find(ID), lambda home: home.searches())):
        home = Home(tmp_path / f"other-{number}")
        (home.path / ID).mkdir(parents=True)
        look(home)
        assert [found.id for found in home.searches()] == [ID]


def test_with_the_storage_away_the_working_copy_tells_what_it_knows(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = machine("one")
    with driving(one) as history:
        start(history)

    def away(*_: Any, **__: Any) -> Any:
        raise StorageError("the server does not answer")

    monkeypatch.setattr(FolderStorage, "names", away)
    monkeypatch.setattr(FolderStorage, "read", away)
    folder = Home(one.path.parent).find(ID)
    assert open_book(folder).id == ID
    assert "as it was when the storage was last seen" in caplog.text


def test_the_fence_holds_on_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(name: str) -> Folder:
        folder = Folder(tmp_path / name / ID)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.storage_uri.write_text(f"s3://{BUCKET}/{tmp_path.name}")
        return folder

    monkeypatch.setattr("search.history.lease.BEAT", 3600.0)
    with pytest.raises(Fenced), driving(machine("one")) as history:
        start(history)
        with pytest.raises(BadInput, match="still running"), driving(machine("other")):
            pass
        monkeypatch.setattr("search.history.lease.STALE", -1.0)
        with driving(machine("other")) as second:
            start(second)
        ask(history, 0)
    pull(machine("third"))
    assert read_book(machine("third").history).sessions == 2


def test_without_a_storage_nothing_of_it_is_made(tmp_path: Path) -> None:
    folder = Home(tmp_path).new("tiny")
    with driving(folder) as history:
        start(history)
        assert history.mirror is None and history.waiting() is None
    assert {path.name for path in folder.path.iterdir()} == {"driver.lock", "history.jsonl"}


def test_a_lost_answer_and_more_reports_since_fence_nobody(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.segments.PERIOD", 0.1)
    create, lost = FolderStorage.create, Event()

    def lose_the_answer(self: FolderStorage, name: str, content: bytes) -> None:
        create(self, name, content)
        if name.startswith(HISTORY) and b'"report"' in content and not lost.is_set():
            lost.set()
            raise StorageError("read timeout")

    monkeypatch.setattr(FolderStorage, "create", lose_the_answer)
    with driving(machine("one")) as history:
        start(history)
        ask(history, 0)
        report(history, 1)
        assert lost.wait(20)
        report(history, 2)  # the trial goes on
        history.write("end", trial=0, state="complete", why=None, again=False)
    kinds = [event["event"] for event in in_storage(shared)]
    assert kinds == ["start", "ask", "report", "report", "end"]


def test_a_driver_that_stood_still_overwrites_nothing_of_its_successor(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is suspended between a look at its lease and the sign of life that follows."""
    monkeypatch.setattr("search.history.lease.BEAT", 0.02)
    one, two = machine("one"), machine("two")
    suspended, resumed, write = Event(), Event(), FolderStorage.write

    def stand_still(self: FolderStorage, name: str, content: bytes) -> None:
        if name.endswith(".alive") and not resumed.is_set() and not suspended.is_set():
            suspended.set()
            resumed.wait(20)
        write(self, name, content)

    monkeypatch.setattr(FolderStorage, "write", stand_still)
    with ExitStack() as stack:
        first = stack.enter_context(driving(one))
        start(first)
        assert suspended.wait(20)
        monkeypatch.setattr("search.history.lease.STALE", -1.0)
        with driving(two) as second:
            monkeypatch.setattr("search.history.lease.STALE", 30.0)
            start(second)
            resumed.set()
            with pytest.raises(Fenced):
                while True:
                    ask(first, 0)
            time.sleep(0.2)  # several beats
            ask(second, 0)  # goes on
    assert sum(event["event"] == "ask" for event in in_storage(shared)) == 1
    assert shared.sub(ID).names("driver") == []


def test_a_driver_is_alive_while_it_brings_a_long_history(
    machine: Machine, shared: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.lease.BEAT", 0.02)
    monkeypatch.setattr("search.history.lease.STALE", 0.5)
    with driving(machine("one")) as history:
        start(history)
    seen: list[bool] = []
    pull = lease.pull

    def slowly(folder: Folder) -> Position:
        time.sleep(1.0)
        seen.append(is_driven(machine("third")))
        return pull(folder)

    monkeypatch.setattr(lease, "pull", slowly)
    with driving(machine("two")):
        assert seen == [True]


@pytest.mark.parametrize("content", ["", "[1", "{}", "[1, null]"])
def test_what_a_power_cut_left_of_a_cache_counts_as_nothing(
    content: str, machine: Machine
) -> None:
    folder = machine("one")
    with driving(folder) as history:
        start(history)
    folder.pulled.write_text(content)
    folder.delivered.write_text(content)
    assert known(folder) == Position(0, 0)
    assert delivered(folder) == (0, {}) and experiment_of(folder) is None
    with driving(folder) as history:
        assert history.book.sessions == 1
