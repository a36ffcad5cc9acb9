"""Faults that need more than one key to see, and notes on what is no fault."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.specs import make_config, make_spec

from search.answer.drawing import loss_axis
from search.errors import BadInput
from search.execution.notify import notify
from search.execution.tuning import rays_words
from search.history.book import Book
from search.history.folder import Folder
from search.spec.checks import check, notes
from search.spec.loading import validate
from search.takeaway.hf_args import hf_args, hf_text
from trainable.base.reading import parse


def faults(**keys: Any) -> list[str]:
    return [f"{'.'.join(map(str, where))}: {what}" for where, what in check(make_spec(**keys))]


TWO = {"optimizer": {"adam": {}, "sgd": {}}}
LISTED_LR = {"optimizer": {"adam": {"lr": [1e-3, 1e-2]}}}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"objective": {"metric": "val_loss", "mode": "max"}}, "objective.mode: val_loss is a"),
        ({"allocation": "equal", "budget": {"trials": 3}}, "budget.trials: 3 can't be divided"),
        ({"scheduler": {"type": "none", "min_results": 5}}, "scheduler.min_results: without a"),
        ({"sampler": {"type": "cmaes"}, "space": LISTED_LR}, "adam.lr is a list of choices"),
        ({"replicates": 2, "budget": {"trials": 99}}, "replicates: independent searches for each"),
        (
            {"replicates": 3, "allocation": "equal", "budget": {"trials": 23}, "space": TWO},
            "replicates: 23 trials are too few for 3 searches of each of 2 optimizers: 4 trials "
            "for each make 24",
        ),
        (
            {
                "replicates": 2,
                "allocation": "equal",
                "budget": {"trials": 16},
                "space": TWO,
                "confirm": {"top": 2},
            },
            "confirm: with replicates the winner of each search is confirmed",
        ),
        (
            {
                "replicates": 2,
                "allocation": "equal",
                "budget": {"trials": 16},
                "space": TWO,
                "confirm": {"equal_time": True},
            },
            "confirm.equal_time: goes with one replicate only",
        ),
        ({"notify": "say 'done"}, "notify: can't be read as a command: no closing quotation"),
        ({"notify": " "}, "notify: names no command"),
    ],
)
def test_what_contradicts_itself_is_a_fault(keys: dict[str, Any], told: str) -> None:
    found = faults(**keys)
    assert len(found) == 1 and told in found[0]


def test_what_is_fine_is_no_fault() -> None:
    enough = {"replicates": 3, "allocation": "equal", "budget": {"trials": 24}, "space": TWO}
    assert not faults(**enough, confirm={})
    assert not faults(scheduler={"type": "median", "min_results": 5}, notify="say 'all done'")
    assert not faults(sampler={"type": "cmaes"})


def test_a_range_that_optimizers_share_is_told_once_for_a_grid() -> None:
    found = [fault for fault in faults(space=TWO, sampler={"type": "grid"}) if "warmup" in fault]
    assert len(found) == 1


def test_notes_say_how_trials_are_shared() -> None:
    told = list(notes(make_spec(space=TWO, allocation="equal", budget={"trials": 9})))
    assert told == ["allocation equal: 8 of the 9 trials will be run, 4 for each of 2 optimizers"]
    (told_too,) = notes(make_spec(space=TWO, budget={"trials": 1}))
    assert "too few for 2 optimizers" in told_too


def test_a_list_with_a_faulty_item_is_not_an_empty_one() -> None:
    with pytest.raises(BadInput) as raised:
        validate(parse("name: a\nobjective: [val_loss]\n", "spec.yaml"))
    assert raised.value.faults == (
        "spec.yaml:2:13 objective.0: expected a mapping, got 'val_loss'",
    )
    with pytest.raises(BadInput, match="needs at least 1, got 0"):
        validate(parse("name: a\nobjective: []\n", "spec.yaml"))


def test_notify_speaks_on_stderr_and_its_faults_are_warnings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, book = Folder(tmp_path / "tiny-000000"), Book(state="complete")
    console = Console(file=io.StringIO())
    notify(make_spec(notify="printenv DIFFSWEEP_STATE"), book, folder, console)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "complete\n")
    for command in ("say 'done", "", "no-such-command-here"):
        notify(make_spec(notify=command), book, folder, console)
    assert console.file.getvalue().count("notify:") == 3  # type: ignore[attr-defined]


def test_what_tune_logs_goes_to_the_log_alone(capfd: pytest.CaptureFixture[str]) -> None:
    log, ours = io.StringIO(), logging.getLogger("diffsweep.test")
    logger = logging.getLogger("ray.tune.execution.tune_controller")
    with rays_words(log):
        logger.error("Trial task failed for trial trial-4")
        ours.warning("of our own")
    assert "ERROR ray.tune.execution.tune_controller: Trial task failed" in log.getvalue()
    assert "of our own" not in log.getvalue() and "Trial task" not in capfd.readouterr().err
    assert logging.getLogger("ray.tune").propagate


def test_hf_args_tell_of_batches_in_parts_folders_and_flips() -> None:
    config = make_config(
        dataset={"type": "folder", "path": "images", "size": 48, "labels": "folders"},
        batch_size=16,
        micro_batch=4,
        steps=100,
        augment={"flip": True, "crop": 2},
        clip_value=0.5,
        clip_agc=0.01,
        diffusion={"min_snr_gamma": 5.0},
        init="start.safetensors",
        freeze=["down.*"],
        adapters={"rank": 4},
    )
    flags, missing = hf_args(config, train_examples=320)
    assert flags[:3] == ["--resolution=48", "--center_crop", "--random_flip"]
    assert flags[3:6] == [
        "--train_batch_size=4", "--gradient_accumulation_steps=4", "--num_epochs=5",
    ]  # fmt: skip
    for word in (
        "clip_value 0.5", "clip_agc 0.01", "diffusion.min_snr_gamma 5", "augment.crop 2",
        "init start.safetensors", "freeze down.*", "adapters of rank 4", "labels:",
    ):  # fmt: skip
        assert any(line.startswith(word) for line in missing), word
    assert "--resolution." not in hf_text(config, 320)


def test_a_loss_axis_shows_where_every_winner_ends() -> None:
    import numpy as np
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    loss_axis(axes, np.array([9.0, 0.1, 9.0, 0.5]), "val_loss", ends=np.array([0.1, 0.5]))
    assert 0.5 <= axes.get_ylim()[1] < 1.0
