"""What a search leaves on disk: no part of a checkpoint, whoever was killed while writing it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from search.execution.leftovers import drop
from search.history.folder import Folder
from search.history.home import Home
from trainable.base.durable import replacing
from trainable.base.folder import FolderStorage


def test_what_a_killed_process_left_of_a_checkpoint_goes_with_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny-000000")
    checkpoint = folder.trial(0) / "checkpoint.pt"
    writing = replacing(checkpoint)
    writing.__enter__().write(b"half of it")  # and the process is gone
    checkpoint.write_bytes(b"the one before")
    (folder.trial(0) / ".checkpoint.pt-1a2b3c4d").touch()  # as it was called before
    (folder.trial(0) / "samples.png").touch()
    assert len(list(folder.trial(0).iterdir())) == 4
    drop(folder, [0])
    assert [path.name for path in folder.trial(0).iterdir()] == ["samples.png"]


def test_checkpoints_of_many_trials_take_one_look_at_storage_and_one_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Home(tmp_path / "home").new("tiny", str(tmp_path / "shared"))
    assert folder.storage is not None
    for number in range(12):
        for name in ("0001.0001.begun-000000000000", "0001.0001.000000000008.abc.pt"):
            folder.storage.write(f"trials/{number}/{name}", b"")
    calls: list[str] = []
    for verb in ("names", "delete_each", "delete"):
        real = getattr(FolderStorage, verb)

        def counted(self: FolderStorage, *given: Any, real: Any = real, verb: str = verb) -> Any:
            calls.append(verb)
            return real(self, *given)

        monkeypatch.setattr(FolderStorage, verb, counted)
    drop(folder, [])
    assert calls == []
    drop(folder, list(range(1, 12)))
    assert Counter(calls) == {"names": 1, "delete_each": 1, "delete": 11}  # of a folder one by one
    kept = [name for name in folder.storage.names() if name.endswith(".pt")]
    assert [name.split("/")[1] for name in kept] == ["0"]
    assert len(folder.storage.names()) == 13
