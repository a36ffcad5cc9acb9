"""What a search leaves on disk: no part of a checkpoint, whoever was killed while writing it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.engines import advance, loss_of, metrics, start
from support.specs import make_spec

from search.execution.leftovers import Sweeper, drop, unwanted
from search.history.folder import Folder
from search.history.home import Home
from trainable.actor.trial import Training
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


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("confirm", [None, {"seeds": "auto"}, {"seeds": 2, "top": 3}])
def test_a_last_checkpoint_is_written_where_it_would_be_kept(
    confirm: dict[str, Any] | None, mode: str, tmp_path: Path
) -> None:
    spec = make_spec(
        space={"optimizer": ["adam", "sgd"]},
        scheduler={"type": "none"},
        budget={"trials": 40},
        objective={"metric": "val_loss", "mode": mode},
        confirm=confirm,
    )
    engine, folder, trial = start(spec), Folder(tmp_path / "tiny-000000"), Training()
    sweeper, written = Sweeper(engine, folder), set()
    while (next_one := engine.next()) is not None:
        trial.kept_if = sweeper.kept_if(next_one)
        loss = loss_of(next_one, next_one.full_samples)
        if trial.is_wanted({"val_loss": loss}, finished=True, at_rung=True):
            written.add(next_one.number)
        engine.begin(next_one.number)
        while next_one.number in engine.active:
            advance(engine, next_one)
        sweeper()
    assert len(engine.book.searched) == 40
    kept = set(engine.book.trials) - set(unwanted(engine))
    assert kept <= written and len(written) < 30
    assert {t.source for t in engine.book.stage("confirm")} <= kept  # what may be the answer


def test_several_objectives_and_trials_that_may_go_on_keep_their_checkpoints(
    tmp_path: Path,
) -> None:
    aims = [{"metric": "val_loss"}, {"metric": "val_loss_q1"}]
    several = start(make_spec(budget={"trials": 8}, scheduler={"type": "none"}, objective=aims))
    sweeper = Sweeper(several, Folder(tmp_path / "tiny-000000"))
    while (one := several.next()) is not None:
        several.begin(one.number)
        loss = loss_of(one, one.full_samples)
        several.report(one.number, metrics(one, one.full_samples, loss) | {"val_loss_q1": -loss})
        sweeper()
    assert several.book.counts() == {"complete": 8}
    assert sweeper.kept_if(several.book.trials[0]) is None
    trial = Training()
    trial.kept_if = {"metric": "val_loss", "mode": "min", "bound": -math.inf}
    assert not trial.is_wanted({"val_loss": 0.0}, finished=True, at_rung=True)
    assert trial.is_wanted({"val_loss": 0.0}, finished=False, at_rung=True)
    assert trial.is_wanted({}, finished=True, at_rung=False)
