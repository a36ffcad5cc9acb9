"""What a trial tells of its failures: whose fault they are, and so what becomes of it."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.specs import make_config

from trainable.actor.kept import Superseded
from trainable.actor.trial import DiffusionTrial, Training
from trainable.base.storage import StorageError
from trainable.data.loading import load_data
from trainable.parallel.gang import GangBroken


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_the_disks_fault_and_leaves_no_part_of_a_checkpoint(
    small_disk: Path,
) -> None:
    config = make_config()
    trial = DiffusionTrial.__new__(DiffusionTrial)
    trial.data = load_data(config.dataset)
    known = {"trial": config.model_dump(mode="json"), "rungs": [8], "folder": str(small_disk)}
    trial.begin(known)
    result = trial.step()
    assert result["failure"] == "disk" and "No space left on device" in result["why"]
    assert "\n" not in result["why"] and list(small_disk.glob("*.pt*")) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (OSError(errno.EIO, "Input/output error"), "disk"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "code"),
        (ZeroDivisionError("own mistake"), "code"),
        (torch.OutOfMemoryError("too much"), "oom"),
        (GangBroken("alone"), "lost"),
        (StorageError("away"), "storage"),
        (Superseded("another process has taken over this trial"), "superseded"),
    ],
)
def test_a_failure_is_told_by_whose_fault_it_is(error: Exception, kind: str) -> None:
    trial = Training()
    trial.fail(error)
    assert trial.failure is not None and trial.failure["kind"] == kind


def test_what_led_to_an_error_counts_too() -> None:
    trial = Training()
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/cache")
        except OSError as error:
            raise RuntimeError("enforce fail") from error
    except RuntimeError as error:
        trial.fail(error)
    assert trial.failure is not None and trial.failure["kind"] == "disk"
    assert trial.failure["why"].endswith("No space left on device (/data/cache)")
