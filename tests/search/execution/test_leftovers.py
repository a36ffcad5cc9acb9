"""What a search leaves on disk: no part of a checkpoint, whoever was killed while writing it."""

from __future__ import annotations

from pathlib import Path

from search.execution.leftovers import drop
from search.history.folder import Folder
from trainable.base.durable import replacing


def test_what_a_killed_process_left_of_a_checkpoint_goes_with_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny-000000")
    checkpoint = folder.trial(0) / "checkpoint.pt"
    writing = replacing(checkpoint)
    writing.__enter__().write(b"half of it")  # and the process is gone
    checkpoint.write_bytes(b"the one before")
    (folder.trial(0) / ".checkpoint.pt-1a2b3c4d").touch()  # as it was called before
    (folder.trial(0) / "samples.png").touch()
    assert len(list(folder.trial(0).iterdir())) == 4
    drop(folder, 0)
    assert [path.name for path in folder.trial(0).iterdir()] == ["samples.png"]
