"""Joined segments read as before, whoever joins, writes, reads or is killed at which moment."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from support.stepping import Memory, Stepped

from search.history.folder import Folder
from search.history.joining import join
from search.history.lease import driving
from search.history.pieces import HISTORY, Gap, chain, name_of, name_of_joined, pieces
from search.history.pulling import pull
from search.history.segments import Segments
from trainable.base.folder import FolderStorage
from trainable.base.storage import StorageError

FEW, SIZE = some.integers(0, 2), some.integers(1, 80)
ACTIONS = some.one_of(
    some.tuples(some.just("write"), some.just(0), some.lists(SIZE, min_size=1, max_size=6)),
    some.tuples(some.just("write"), FEW, some.lists(SIZE, min_size=1, max_size=3)),
    some.tuples(some.just("lose an answer"), FEW, some.just([9])),
    some.tuples(some.just("take over")),
    some.tuples(some.just("join"), some.none() | FEW, some.integers(0, 30)),
    some.tuples(some.just("join"), some.none() | FEW, some.just(1000)),
    some.tuples(some.just("read"), FEW, some.integers(0, 6)),
    some.tuples(some.just("read"), FEW, some.just(1000)),
    some.tuples(some.just("step"), FEW, some.integers(1, 12)),
    some.tuples(some.just("kill"), FEW),
)


class Answerless(Memory):
    """A storage whose next answer can be lost."""

    lost = False

    def create(self, name: str, content: bytes) -> None:
        super().create(name, content)
        if self.lost and name.startswith(HISTORY):
            self.lost = False
            raise StorageError("no answer")


class Driver:
    """One that writes; it never knows whether another has taken over."""

    def __init__(self, folder: Folder, storage: Memory) -> None:
        self.segments = Segments(folder, storage, pull(folder))
        self.fenced = False

    def write(self, event: str, number: int, filling: int = 0) -> bool:
        """Whether the event is known to be in storage."""
        line = json.dumps({"event": event, "number": number, "filling": "x" * filling})
        with self.segments.folder.history.open("a") as file:
            file.write(line + "\n")
        return self.push()

    def push(self) -> bool:
        try:
            while self.segments._push():
                pass
        except FileExistsError:
            self.fenced = True
        except StorageError:
            return False
        return not self.fenced


class Scene:
    """Drivers, those who join and those who read, on one storage."""

    def __init__(self, path: Path) -> None:
        self.path, self.storage = path, Answerless()
        self.storage.pause = Stepped.pause
        self.drivers: list[Driver] = []  # the newest first
        self.at_work: list[Stepped] = []
        self.machines: dict[str, Folder] = {}
        self.told: list[int] = []  # events that a driver was told to be in storage
        self.waiting: dict[int, list[int]] = {}  # of drivers that got no answer yet
        self.count = 0
        self.seen = b""  # the longest history that anyone has read

    def machine(self, name: str) -> Folder:
        if name not in self.machines:
            folder = self.machines[name] = Folder(self.path / name)
            folder.__dict__["storage"] = self.storage
        return self.machines[name]

    def act(self, verb: str, who: int | None = None, given: Any = None) -> None:
        driver = self.drivers[who] if who is not None and who < len(self.drivers) else None
        work = self.at_work[who] if who is not None and who < len(self.at_work) else None
        if verb == "take over":
            new = Driver(self.machine(f"driver-{len(self.drivers)}"), self.storage)
            self.drivers.insert(0, new)
            self.write(new, "start", 0)
        elif verb == "join":
            known = dict(driver.segments.recent) if driver else {}
            self.begin("join", lambda: join(self.storage, known), given)
        elif verb == "read" and all(other.name != f"reader-{who}" for other in self.at_work):
            folder = self.machine(f"reader-{who}")
            self.begin(folder.id, lambda: self.read(folder), given)
        elif verb == "step" and work:
            work.step(given)
        elif verb == "kill" and work:
            work.kill()
        elif verb in ("write", "lose an answer") and driver:
            for filling in given:
                self.storage.lost = verb != "write"
                self.write(driver, "ask", filling)
            self.storage.lost = False
        self.look()

    def begin(self, name: str, work: Callable[[], object], steps: int) -> None:
        """Have something done, by so many operations on the storage for now."""
        passing = (FileNotFoundError, FileExistsError, Gap) if name == "join" else ()
        self.at_work.append(Stepped(name, work, passing))
        self.at_work[-1].step(steps)

    def look(self) -> None:
        for work in self.at_work:
            if work.error is not None:
                raise work.error
        self.at_work = [work for work in self.at_work if not work.done]

    def write(self, driver: Driver, event: str, filling: int) -> None:
        if driver.fenced:
            return
        self.count += 1
        waiting = self.waiting.setdefault(id(driver), [])
        waiting.append(self.count)
        if driver.write(event, self.count, filling):
            self.told += waiting
            waiting.clear()

    def read(self, folder: Folder) -> None:
        pull(folder)
        content = folder.history.read_bytes() if folder.history.exists() else b""
        longest, other = max(self.seen, content, key=len), min(self.seen, content, key=len)
        assert longest.startswith(other)  # what was read once stays so
        self.seen = longest

    def check(self) -> None:
        """All that was told to be there is, and nothing twice."""
        for work in self.at_work:
            work.step(1_000_000)
        self.look()
        for folder in [self.machine("new"), *self.machines.values()]:
            if not folder.id.startswith("driver-"):
                self.read(folder)
                assert folder.history.read_bytes() == self.seen
        numbers = [json.loads(line)["number"] for line in self.seen.splitlines()]
        assert len(set(numbers)) == len(numbers)
        assert [number for number in numbers if number in self.told] == self.told


@settings(max_examples=30, deadline=None)
@given(some.lists(ACTIONS, min_size=20, max_size=60))
def test_a_history_reads_the_same_whatever_happens_to_its_segments(actions: list[Any]) -> None:
    with (
        tempfile.TemporaryDirectory() as path,
        patch("search.history.joining.LARGEST", 400),
        patch("search.history.pulling.WAITS", (0.0,) * 100),
        patch("os.fsync"),
    ):
        scene = Scene(Path(path))
        for action in [("take over",), *actions]:
            scene.act(*action)
        scene.check()
        before = scene.seen
        join(scene.storage)
        join(scene.storage)
        scene.check()
        assert scene.seen == before


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("search.history.pulling.WAITS", (0.0, 0.0))
    return Scene(tmp_path)


@pytest.mark.parametrize("last", ["write", "lose an answer"])
def test_a_driver_that_was_cut_off_writes_nothing_after_its_successor_joined_all(
    scene: Scene, last: str
) -> None:
    """Whether it knows its own last segment to be there or not."""
    scene.act("take over")
    scene.act("write", 0, [1] * 6)
    scene.act(last, 0, [1])
    for _ in range(3):
        scene.act("take over")
        scene.act("write", 0, [1] * 6)
        scene.act("join", None, 1000)
    left = len(scene.storage.content)
    assert left < 4 * 6  # much was joined
    scene.act("write", 3, [1] * 3)
    assert scene.drivers[3].fenced and len(scene.storage.content) == left
    scene.check()


def test_joining_again_finds_nothing_to_do_and_few_pieces_are_left(scene: Scene) -> None:
    scene.act("take over")
    scene.act("write", 0, [1] * 40)
    scene.check()
    for _ in range(2):
        join(scene.storage)
        assert (
            set(scene.storage.content)
            == {
                *(name_of(1), name_of(41)),  # where its driver began, and where the next will
                name_of_joined(2, 40, sum(len(line) for line in lines(scene)[1:-1])),
            }
        )
    assert lines(scene) == scene.seen.splitlines(keepends=True)
    scene.act("write", 0, [1] * 2)
    join(scene.storage)  # what was joined before, too
    assert len(scene.storage.content) == 3
    scene.check()


def test_pieces_grow_no_larger_than_is_good(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.history.joining.LARGEST", 400)
    scene.act("take over")
    scene.act("write", 0, [1] * 6 + [900] + [1] * 20)
    join(scene.storage)
    found = chain(pieces(scene.storage.sizes(HISTORY)))
    assert all(piece.size <= 400 for piece in found if piece.joined)
    assert sum(piece.joined for piece in found) in range(4, 8)
    scene.check()


def test_much_that_is_to_be_joined_is_left_for_another_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.history.joining.LARGEST", 400)
    scene.act("take over")
    scene.act("write", 0, [1] * 40)
    join(scene.storage, enough=lambda: any(name.endswith(".gz") for name in scene.storage.content))
    found = chain(pieces(scene.storage.sizes(HISTORY)))
    assert [piece.joined for piece in found[:3]] == [False, True, False]
    assert sum(piece.joined for piece in found) == 1
    scene.check()


def test_what_another_is_about_to_create_counts_only_once_it_is_there(scene: Scene) -> None:
    scene.act("take over")
    scene.act("write", 0, [1] * 9)
    before = dict(scene.storage.content)

    def conflict(name: str, content: bytes) -> None:
        raise FileExistsError(name)  # as S3 says of a request that is still going on

    with patch.object(scene.storage, "create", conflict), pytest.raises(FileNotFoundError):
        join(scene.storage)
    assert scene.storage.content == before


def lines(scene: Scene) -> list[bytes]:
    folder = scene.machine("any")
    pull(folder)
    return folder.history.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("known", range(11))
def test_a_working_copy_that_knew_the_segments_before_they_were_joined_goes_on(
    scene: Scene, known: int
) -> None:
    scene.act("take over")
    scene.act("write", 0, range(1, 10))
    reader, before = scene.machine("reader"), lines(scene)
    reader.path.mkdir()
    reader.history.write_bytes(b"".join(before[:known]))
    reader.pulled.write_text(json.dumps([known, len(b"".join(before[:known]))]))
    join(scene.storage)
    scene.act("write", 0, [1])
    pull(reader)
    assert reader.history.read_bytes() == b"".join(lines(scene))


def test_segments_of_many_searches_ago_are_joined_at_the_next_resume(tmp_path: Path) -> None:
    """As older versions left them: one for each decision, and none joined."""
    shared = FolderStorage(str(tmp_path / "shared"))
    folder = Folder(tmp_path / "home" / "tiny-00000a")
    folder.path.mkdir(parents=True)
    folder.storage_uri.write_text(shared.uri)
    told = [{"event": "start", "search": folder.id, "spec": {}, "format": 1}]
    told += [{"event": "import", "trials": []}] * 90
    for number, event in enumerate(told, start=1):
        line = json.dumps({**event, "time": number}).encode() + b"\n"
        shared.sub(folder.id).create(name_of(number), line)
    with driving(folder) as history:
        assert history.book.sessions == 1
        history.write("start", search=folder.id, spec={}, format=1)
    found = chain(pieces(shared.sub(folder.id).sizes(HISTORY)))
    assert [(piece.first, piece.last) for piece in found] == [(1, 1), (2, 90), (91, 91), (92, 92)]
    other = Folder(tmp_path / "other" / folder.id)
    other.path.mkdir(parents=True)
    other.storage_uri.write_text(shared.uri)
    pull(other)
    assert other.history.read_bytes() == folder.history.read_bytes()


def test_a_driver_joins_as_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.history.joining.EVERY", 8)
    monkeypatch.setattr("search.history.joining.LOOK", 0.01)
    folder = Folder(tmp_path / "home" / "tiny-00000a")
    folder.path.mkdir(parents=True)
    shared = FolderStorage(str(tmp_path / "shared"))
    folder.storage_uri.write_text(shared.uri)
    with driving(folder) as history:
        history.write("start", search=folder.id, spec={}, format=1)
        deadline = time.monotonic() + 60
        while not any(".gz" in name for name in shared.sub(folder.id).names(HISTORY)):
            history.write("import", trials=[])
            assert time.monotonic() < deadline
    assert len(shared.sub(folder.id).names(HISTORY)) == 3
