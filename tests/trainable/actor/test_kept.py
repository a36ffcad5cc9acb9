"""A trial's checkpoints in storage: which one counts, whoever wrote it and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.specs import make_config

from trainable.actor.kept import GRID, Kept, Superseded, saved, whole
from trainable.actor.trial import DiffusionTrial, Training
from trainable.base.folder import FolderStorage
from trainable.base.storage import StorageError
from trainable.data.loading import load_data

Process = Callable[[int], Kept]


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path / "shared"))


@pytest.fixture
def process(storage: FolderStorage, tmp_path: Path) -> Process:
    """Begins work on the trial as a new process does, in a session of the search."""

    def begin(session: int = 1) -> Kept:
        local = tmp_path / f"local-{len(list(tmp_path.iterdir()))}"
        local.mkdir()
        kept = Kept(storage, session, local)
        path = kept.restore()
        kept.claim(int(path.read_text()) if path else 0)
        return kept

    return begin


def train_to(kept: Kept, samples: int) -> None:
    path = kept.local / "checkpoint.pt"
    path.write_text(str(samples))
    kept.put(path, samples)
    kept.wait()


def newest(storage: FolderStorage, tmp_path: Path) -> str | None:
    path = next(whole(storage, tmp_path / "found"), None)
    return path.read_text() if path else None


def test_a_process_goes_on_from_the_newest_checkpoint(
    storage: FolderStorage, process: Process, tmp_path: Path
) -> None:
    first = process(1)
    assert newest(storage, tmp_path) is None
    for samples in (100, 200, 300):
        train_to(first, samples)
    assert newest(storage, tmp_path) == "300"
    assert [s.samples for s in saved(storage.names())] == [300, 200]  # one to fall back on
    assert process(1).attempt == (1, 2)
    assert process(2).attempt == (2, 1)


@pytest.mark.parametrize("damage", [b"", b"half of it"])
def test_a_damaged_checkpoint_is_passed_over(
    damage: bytes, storage: FolderStorage, process: Process, tmp_path: Path
) -> None:
    first = process(1)
    train_to(first, 100)
    train_to(first, 200)
    storage.write(saved(storage.names())[0].name, damage)
    assert newest(storage, tmp_path) == "100"
    storage.write(saved(storage.names())[1].name, damage)
    assert newest(storage, tmp_path) is None


def test_what_a_cut_off_host_writes_after_its_replacement_began_does_not_count(
    storage: FolderStorage, process: Process, tmp_path: Path
) -> None:
    cut_off = process(1)
    train_to(cut_off, 100)
    replacement = process(1)
    # an upload that was under way while its host was cut off arrives now
    late = saved(storage.names())[0].name.replace(f"{100:012d}", f"{500:012d}")
    storage.write(late, b"500")
    assert newest(storage, tmp_path) == "100"
    with pytest.raises(Superseded):
        train_to(cut_off, 600)
    train_to(replacement, 200)
    assert newest(storage, tmp_path) == "200"
    assert late not in storage.names()


def test_a_driver_of_before_can_begin_nothing(storage: FolderStorage, process: Process) -> None:
    process(2)
    with pytest.raises(Superseded, match="later session"):
        process(1)


def test_a_replacement_that_dies_at_once_leaves_what_was_there(
    storage: FolderStorage, process: Process, tmp_path: Path
) -> None:
    train_to(process(1), 100)
    process(1)
    process(2)
    assert newest(storage, tmp_path) == "100"


def test_an_upload_that_fails_is_told_at_the_next(
    storage: FolderStorage, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = process(1)

    def fail(*_: object) -> None:
        raise StorageError("away")

    monkeypatch.setattr(storage, "upload", fail)
    path = kept.local / "checkpoint.pt"
    path.write_text("100")
    kept.put(path, 100)
    with pytest.raises(StorageError, match="away"):
        kept.wait()
    kept.wait()  # it was said


def test_a_process_that_tune_makes_ready_and_does_not_use_takes_nothing_over(
    storage: FolderStorage, tmp_path: Path
) -> None:
    """Tune gives a trial that lost its process to an idle one, and ends the one that it had asked
    for; that may be ready already."""

    config = make_config()
    data = load_data(config.dataset)

    class Trial(DiffusionTrial):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, data)

    given = {
        "trial": config.model_dump(mode="json"),
        "rungs": [],
        "folder": str(tmp_path),
        "storage": storage,
        "session": 1,
    }
    used, unused = Trial(given), Trial(given)
    assert [used.step().get("failure") for _ in range(4)] == [None] * 4
    begun = [name for name in storage.names() if "begun" in name]
    assert begun == ["0001.0001.begun-000000000000"]
    for trial in (used, unused):
        trial.cleanup()


def test_reports_that_a_driver_lost_with_its_host_are_made_again(
    storage: FolderStorage, tmp_path: Path
) -> None:
    """It may have known more reports than had come to storage when its host lost its power, and
    the trial may have been further, with a checkpoint."""
    trial = begun(storage, tmp_path, known=0)
    made = [trial.step()["report"] for _ in range(3)]
    trial.write_checkpoint(trial.reports.pop())  # as if it had been time for one
    trial.kept.wait()
    for known, again in ((1, made[1:]), (2, made[2:]), (3, made[2:])):
        trial = begun(storage, tmp_path, known=made[known - 1]["samples"])
        assert [trial.step()["report"] for _ in again] == again
    after = trial.step()["report"]
    assert after["step"] == made[2]["step"] + (made[2]["step"] - made[1]["step"])


def test_the_samples_are_there_before_the_checkpoint_from_which_nobody_draws_them(
    storage: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = begun(storage, tmp_path, known=0)
    seen: dict[int, bool] = {}  # samples seen -> whether the picture was there
    put = Kept.put

    def watched(kept: Kept, path: Path, samples: int) -> None:
        seen[samples] = GRID in storage.names()
        put(kept, path, samples)

    monkeypatch.setattr(Kept, "put", watched)
    while not trial.step()["finished"]:
        assert not any(seen.values())
    assert seen[max(seen)] and max(seen) == trial.state.config.samples


@pytest.mark.parametrize(("save", "wait"), [(0.02, 12), (0.5, 60), (8, 240)])  # seconds
def test_saves_are_as_far_apart_as_costs_least(
    save: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, clock = Training(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    trial.saved_at, trial.save_seconds = clock[0], 0.0
    assert trial.save_is_due()  # nobody knows yet how long it takes
    trial.save_seconds = save
    clock[0] += wait - 1
    assert not trial.save_is_due()
    clock[0] += 2
    assert trial.save_is_due()


def begun(storage: FolderStorage, folder: Path, known: int) -> Training:
    """A process that has taken on a trial."""
    config = make_config()
    trial = Training()
    trial.data, trial.logdir = load_data(config.dataset), str(folder)
    given = {"trial": config.model_dump(mode="json"), "rungs": [], "folder": str(folder)}
    trial.begin(given | {"storage": storage, "session": 1, "known": known})
    assert trial.failure is None and trial.kept is not None
    return trial
