"""The export: what is in it, and that it is what the trial was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from support.specs import make_config, make_spec

from search.answer.describe import yaml_text
from search.errors import BadInput
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import FORMAT, History
from search.takeaway.files import export_best
from search.takeaway.training import train_config
from trainable.actor import checkpoint
from trainable.config_file import read_config
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.models.finetune import load_weights
from trainable.report import report, validate
from trainable.train import TrainState, build_model, train_until


@pytest.fixture
def folder(home: Path) -> Folder:
    Home().prepare()
    return Home().new("tiny")


@pytest.fixture
def history(folder: Folder) -> Iterator[History]:
    opened = History(folder.history)
    spec = make_spec().model_dump(mode="json")
    opened.write("start", search=folder.id, spec=spec, format=FORMAT)
    yield opened
    opened.close()


def train_trial(
    history: History, folder: Folder, number: int, lr: float, **keys: Any
) -> TrainState:
    """Train a trial as the search does, and write down what became of it."""
    config = make_config({"type": "adam", "lr": lr}, **keys)
    history.write(
        "ask",
        trial=number,
        stage="search",
        chosen={},
        config=config.model_dump(mode="json"),
        baseline=False,
    )
    history.write("begin", trial=number)
    state = TrainState(config, load_data(config.dataset))
    while state.samples < config.samples:
        train_until(state, state.samples + config.report_every * config.batch_size)
        metrics = report(state)
        history.write("report", trial=number, metrics=metrics)
    checkpoint.save(state, folder.trial(number) / checkpoint.NAME, metrics)
    history.write("end", trial=number, state="complete", why=None, again=False)
    return state


def test_the_best_complete_trial_is_exported_and_trains_to_the_same_loss(
    history: History, folder: Folder, tmp_path: Path
) -> None:
    train_trial(history, folder, 0, lr=1e-6)
    state = train_trial(history, folder, 1, lr=1e-2)
    trial = export_best(folder, history.book, tmp_path / "best")
    assert trial.number == 1
    metrics = json.loads((tmp_path / "best" / "metrics.json").read_text())
    assert metrics["val_loss"] == trial.last("val_loss")
    assert (metrics["search"], metrics["trial"]) == (folder.id, 1)

    config = read_config(tmp_path / "best" / "config.yaml")
    assert config == state.config
    quiet = type("Quiet", (), {"print": lambda *_: None})()
    again = train_config(tmp_path / "best" / "config.yaml", None, None, None, quiet)
    assert again["val_loss"] == metrics["val_loss"]


def test_the_weights_are_those_that_the_loss_was_measured_with(
    history: History, folder: Folder, tmp_path: Path
) -> None:
    state = train_trial(history, folder, 0, lr=1e-2)
    trial = export_best(folder, history.book, tmp_path / "best")
    weights = load_file(tmp_path / "best" / "model.safetensors")
    data = load_data(state.config.dataset)
    model = build_model(state.config.model, data, state.process.time_scale)
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert {name for name, _ in model.named_parameters()} <= set(weights)
    with torch.no_grad():
        assert state.validation.losses(model.eval())[0] == pytest.approx(
            trial.last("val_loss"), rel=1e-6
        )


class Tied(torch.nn.Module):
    """The same matrix twice, as language models tie theirs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        size = math.prod(shape)
        self.first, self.last = (torch.nn.Linear(size, size) for _ in range(2))
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.last(torch.tanh(self.first(x.flatten(1))))
        return answer.view_as(x)


@pytest.mark.parametrize("weights", ["raw", "0.999"])
def test_tied_weights_are_exported_under_all_their_names(
    weights: str,
    history: History,
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainable.models.mlp.Tied", Tied, raising=False)
    state = train_trial(history, folder, 0, lr=1e-2, model={"type": "trainable.models.mlp:Tied"})
    history.book.trials[0].reports[-1]["weights"] = weights
    export_best(folder, history.book, tmp_path / "best")
    path = tmp_path / "best" / "model.safetensors"
    saved = load_file(path)
    torch.testing.assert_close(saved["last.weight"], saved["first.weight"], rtol=0, atol=0)
    again = TrainState(state.config, state.data)
    load_weights(again.model, str(path))
    assert validate(again, "raw") == pytest.approx(validate(state, weights), rel=1e-6)
    del saved["last.weight"]  # as safetensors' save_model writes them
    save_file(saved, path)
    load_weights(TrainState(state.config, state.data).model, str(path))


def test_the_card_tells_data_model_optimizer_and_numbers(
    history: History, folder: Folder, tmp_path: Path
) -> None:
    train_trial(history, folder, 0, lr=1e-2)
    trial = export_best(folder, history.book, tmp_path / "best")
    card = (tmp_path / "best" / "README.md").read_text()
    for fact in (folder.id, "digits", "unet", "adam", "0.01", f"{trial.last('val_loss'):.6f}"):
        assert fact in card
    assert "diffsweep train config.yaml" in card


def test_without_a_complete_trial_there_is_nothing_to_export(
    history: History, folder: Folder, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="nothing to export, no trial is complete"):
        export_best(folder, history.book, tmp_path / "best")
    assert not (tmp_path / "best").exists()


def test_train_tells_what_the_data_has_to_say_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(yaml_text(make_config().model_dump(mode="json")))
    data = load_data(make_config().dataset)
    told = Data(*data.parts, notes=("3 examples of 100 moved",))
    monkeypatch.setattr("trainable.solo.load_data", lambda _: told)
    stream = StringIO()
    train_config(tmp_path / "config.yaml", None, None, None, Console(file=stream))
    assert stream.getvalue().startswith("note: 3 examples of 100 moved\n")
