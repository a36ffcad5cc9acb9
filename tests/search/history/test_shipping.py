"""The user's code in storage: what was cut off on the way counts for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.history.folder import Folder
from search.history.shipping import bring_own, get_code, put_code
from trainable.base.folder import FolderStorage

FILES = ("a.py", "b.py", "c.py")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "modules").mkdir()
    for name in FILES:
        (tmp_path / "modules" / name).write_text(f"NAME = '{name}'\n")
    return tmp_path / "modules"


def machine(tmp_path: Path, name: str) -> Folder:
    folder = Folder(tmp_path / name / "tiny-00000a")
    folder.path.mkdir(parents=True)
    folder.storage_uri.write_text(str(tmp_path / "shared"))
    return folder


class Killed(BaseException):
    """As if the process ended here."""


def cut_off(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Have the process die in the second transfer."""
    real, calls = getattr(FolderStorage, call), list[str]()

    def dies(self: FolderStorage, *arguments: object) -> None:
        calls.append(call)
        if len(calls) > 1:
            raise Killed
        real(self, *arguments)

    monkeypatch.setattr(FolderStorage, call, dies)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_code_that_was_half_kept_is_kept_by_the_next_driver(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machine(tmp_path, "one"), machine(tmp_path, "other")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        cut_off(patch, "upload")
        put_code(one, (str(code),))
    put_code(one, (str(code),))
    code.rename(tmp_path / "gone")
    (place,) = get_code(other).values()
    assert tuple(names(Path(place))) == FILES


def test_code_that_was_half_brought_is_brought_again(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machine(tmp_path, "one"), machine(tmp_path, "other")
    monkeypatch.chdir(tmp_path)
    put_code(one, (str(code), "modules"))
    code.rename(tmp_path / "gone")
    for bring in (get_code, bring_own):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            cut_off(patch, "download")
            bring(other)
        bring(other)
    assert tuple(names(next(other.code.iterdir()))) == FILES
    assert tuple(names(other.own / "modules")) == FILES and names(other.own) == ["modules"]
