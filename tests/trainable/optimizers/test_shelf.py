"""The optimizer shelf: what each entry claims of itself, and what it does to which weights."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from support.specs import UnusedRay, make_config, make_spec
from support.training import HERE
from torch import nn

from search.forecast.plan import plan
from search.history.home import Home
from search.run import run
from search.spec.checks import check
from search.spec.priors import DEFAULT_KNOBS, PUBLISHED
from search.spec.space import Space, choice_of, settings
from trainable.actor import checkpoint
from trainable.config import TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.optimizers.adafactor import MatrixAdafactor
from trainable.optimizers.build import hidden_matrices, state_bytes
from trainable.optimizers.shelf import OPTIMIZERS
from trainable.preflight import try_optimizer
from trainable.report import network, report
from trainable.train import TrainState, train_until

DEFAULT_UNET = {"type": "unet"}


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


def test_every_optimizer_has_default_ranges_and_a_published_default() -> None:
    assert DEFAULT_KNOBS.keys() == OPTIMIZERS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_default_ranges_are_valid_and_hold_the_published_default(name: str) -> None:
    spec = make_spec(space={"optimizer": [name]})
    assert list(check(spec)) == []
    config = spec.trial.resolve(**PUBLISHED[name])
    params = spec.space.encode(choice_of(config, spec.space), [name])
    assert params is not None and params[f"{name}.lr"] == config.optimizer.lr


@pytest.mark.parametrize("name", HERE)
def test_the_state_is_as_large_as_the_shelf_says(name: str, data: Data) -> None:
    config = make_config({"type": name, "lr": 1e-3}, model=DEFAULT_UNET)
    state = TrainState(config, data)
    train_until(state, 2 * config.batch_size)
    weights = sum(weight.numel() for weight in state.model.parameters())
    claimed = OPTIMIZERS[name].state_bytes
    assert claimed is not None
    assert state_bytes(state.optimizer) / weights == pytest.approx(claimed, rel=0.02)


@pytest.mark.parametrize("name", HERE)
def test_the_published_default_trains(name: str, data: Data) -> None:
    settings = TrialSettings.model_validate(
        {"model": {"type": "unet", "channels": 8}, "batch_size": 32, "steps": 60, "ema": []}
        | {"validation_examples": 128}
    )
    state = TrainState(settings.resolve(threads=1, **PUBLISHED[name]), data)
    before = report(state)["val_loss"]
    train_until(state, state.config.samples)
    assert report(state)["val_loss"] < before


def test_muon_takes_hidden_matrices_and_adamw_the_rest(data: Data) -> None:
    state = TrainState(make_config({"type": "muon", "lr": 1e-3}, model=DEFAULT_UNET), data)
    groups = {group["use_muon"]: group["params"] for group in state.optimizer.param_groups}
    matrices = {id(weight) for weight in groups[True]}
    names = {name for name, weight in state.trained.items() if id(weight) in matrices}
    rest = state.trained.keys() - names
    assert {"condition.time.0.weight", "down.0.conv1.weight", "middle.1.qkv.weight"} <= names
    assert {"enter.weight", "leave.weight", "norm.weight", "down.0.embed.bias"} <= rest
    assert all(state.trained[name].ndim > 1 for name in names)
    assert all(w.ndim == 1 for name, w in state.trained.items() if name in rest - EDGES)


EDGES = {"enter.weight", "leave.weight"}


def test_adafactor_treats_a_convolution_as_the_matrix_it_is() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(6, 4, 3, 3)
    matrix = nn.Parameter(kernel.flatten(1).clone())
    laid_out = [torch.contiguous_format, torch.channels_last]
    kernels = [nn.Parameter(kernel.clone(memory_format=layout)) for layout in laid_out]
    optimizers = [torch.optim.Adafactor([matrix]), *(MatrixAdafactor([k]) for k in kernels)]
    for _ in range(3):
        grad = torch.randn(6, 4, 3, 3)
        matrix.grad = grad.flatten(1)
        for weight, layout in zip(kernels, laid_out, strict=True):
            weight.grad = grad.clone(memory_format=layout)
        for optimizer in optimizers:
            optimizer.step()
    for weight, layout in zip(kernels, laid_out, strict=True):
        assert torch.equal(weight.flatten(1), matrix)
        assert weight.is_contiguous(memory_format=layout) and weight.grad is not None


def test_edges_are_found_by_what_is_called_with_the_example() -> None:
    class Odd(nn.Module):
        """Its first layer in order is its last in use, and time comes before the example."""

        def __init__(self) -> None:
            super().__init__()
            self.answer, self.time = nn.Linear(8, 3), nn.Linear(1, 8)
            self.words = nn.Embedding(4, 8)
            self.given = nn.Sequential(nn.Linear(3, 8), nn.SiLU())
            self.inner, self.place = nn.Linear(8, 8), nn.Parameter(torch.zeros(1, 8))

        def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            hidden = self.time(t[:, None]) + self.words(labels) + self.given(x) + self.place
            answer: torch.Tensor = self.answer(self.inner(hidden))
            return answer

    inputs = (torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, dtype=torch.long))
    assert hidden_matrices(Odd(), inputs) == {"inner.weight"}  # `time` is but a column


def test_schedule_free_validates_and_exports_the_average(data: Data, tmp_path: Path) -> None:
    config = make_config({"type": "schedulefree_adamw", "lr": 1e-2}, ema=["0.5"])
    state = TrainState(config, data)
    train_until(state, 6 * config.batch_size)
    trained = {name: weight.detach().clone() for name, weight in state.trained.items()}
    checkpoint.save(state, tmp_path / "checkpoint.pt", None)
    inputs = (torch.ones(2, 1, 8, 8), torch.ones(2))
    answer = network(state, "raw")(*inputs)
    assert all(torch.equal(weight, trained[name]) for name, weight in state.trained.items())

    state.optimizer.eval()  # type: ignore[attr-defined]  # the library's own way there
    exported = checkpoint.read_weights(tmp_path / "checkpoint.pt", "raw")
    for name, weight in state.trained.items():
        assert torch.allclose(weight, exported[name], atol=1e-6)
        assert not torch.equal(trained[name], exported[name]) or not weight.any()
    assert torch.allclose(answer, state.model(*inputs), atol=1e-5)


def test_how_often_one_looks_does_not_change_a_schedule_free_training(data: Data) -> None:
    for name in ("schedulefree_adamw", "pytorch_optimizer:ScheduleFreeRAdam"):
        config = make_config({"type": name, "lr": 1e-2})
        seldom, often = TrainState(config, data), TrainState(config, data)
        for step in range(1, 9):
            train_until(often, step * config.batch_size)
            report(often)
        train_until(seldom, 8 * config.batch_size)
        assert report(often)["val_loss"] == pytest.approx(report(seldom)["val_loss"], abs=0)


def test_an_optimizer_that_keeps_its_lr_has_no_lr_schedule_to_search() -> None:
    spec = make_spec(space={"optimizer": ["adam", "schedulefree_adamw"], "lr_schedule": "cosine"})
    names = [name for name, _ in spec.space.dimensions("schedulefree_adamw")]
    assert "lr_schedule" not in names
    chosen = {"optimizer": "schedulefree_adamw", "schedulefree_adamw.lr": 1e-3}
    assert spec.trial.resolve(**settings(chosen)).lr_schedule == "constant"
    assert any("lr_schedule constant" in note for note in plan(spec)["notes"])
    with pytest.raises(ValidationError, match="needs lr_schedule constant, got cosine"):
        make_config({"type": "schedulefree_adamw", "lr": 1e-3}, lr_schedule="cosine")


def test_a_prodigy_lr_far_from_one_is_noted_but_no_fault() -> None:
    def notes(lr: Any) -> list[str]:
        spec = make_spec(space={"optimizer": {"prodigy": {"lr": lr}}})
        assert list(check(spec)) == []
        found: list[str] = plan(spec)["notes"]
        return found

    assert notes(1.0) == notes({"low": 0.3, "high": 3, "log": True}) == []
    assert "should be about 1, got 1e-05 ... 0.01" in notes({"low": 1e-5, "high": 1e-2})[0]


def test_run_shows_the_notes_of_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.execution.local.OwnRay", UnusedRay)
    monkeypatch.setattr("search.run.drive", lambda *_, **__: None)  # nothing begins
    spec = make_spec(space={"optimizer": {"prodigy": {"lr": {"low": 1e-5, "high": 1e-2}}}})
    stream = StringIO()
    run(spec, Home(), Console(file=stream, width=200))
    assert "note: prodigy: lr is a factor of its own estimate" in stream.getvalue()


def test_an_optimizer_of_ones_own_brings_its_space(data: Data) -> None:
    name = "pytorch_optimizer:Adan"
    space = Space.model_validate({"optimizer": {name: {"lr": [1e-3], "weight_decay": [0.0, 0.1]}}})
    assert [key for key, _ in space.dimensions(name)][:2] == [f"{name}.lr", f"{name}.weight_decay"]
    chosen = {"optimizer": name, f"{name}.lr": 1e-3, f"{name}.weight_decay": 0.1}
    state = TrainState(make_config(**settings(chosen)), data)
    assert type(state.optimizer).__name__ == "Adan"
    assert state.optimizer.param_groups[0]["weight_decay"] == 0.1
    with pytest.raises(ValueError, match=r"optimizer torch.optim:Adam: .* 'unknown'"):
        TrainState(make_config({"type": "torch.optim:Adam", "lr": 1e-3, "unknown": 1}), data)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(HERE)))
def test_eight_bits_are_refused_in_one_line_without_cuda(name: str, data: Data) -> None:
    expected = f"optimizer {name} needs a CUDA device, got cpu"
    with pytest.raises(ValueError, match=expected):
        try_optimizer(name, "cpu")
    with pytest.raises(ValueError, match=expected):
        TrainState(make_config({"type": name, "lr": 1e-3}, device="cpu"), data)
