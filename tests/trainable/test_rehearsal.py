"""What would break a trial is found before one begins: what is returned, kept, and saved."""

from __future__ import annotations

import collections
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.specs import make_config
from torch import Tensor, nn

from trainable.base.shelf import cause
from trainable.config import TrialConfig
from trainable.data.loading import load_data
from trainable.rehearsal import rehearse
from trainable.solo import try_settings
from trainable.train import TrainState, train_until


class Net(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(shape[0], shape[0], 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.layer(x)


class Stateful(Net):
    """Keeps a mapping beside its weights."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class Grows(Net):
    """Has a buffer only after its first call in training: no new one takes its state."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            self.register_buffer("seen", torch.ones(3))
        return self.layer(x)


class Lazy(Net):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.layer = nn.LazyConv2d(shape[0], 3, padding=1)  # type: ignore[assignment]


class Complex(Net):
    """Weights that are complex, as of Fourier layers; its answers are real."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.modes = nn.Parameter(torch.ones(8, 5, dtype=torch.complex64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(self.layer(x)) * self.modes
        return torch.fft.irfft2(spectrum, s=x.shape[2:])


class TrainsBadly(Net):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("only in training")
        return self.layer(x)


class Pair(Net):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.layer(x), None


class Mapping(Net):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return {"sample": self.layer(x)}


class Nothing(Net):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        self.layer(x)


class Whole(Net):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.layer(x).long()


class Imaginary(Net):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.layer(x).to(torch.complex64)


class Sgd(torch.optim.SGD):
    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr)


class KeepsNumber(Sgd):
    def step(self, closure: Any = None) -> Any:
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["ratio"] = np.float64(0.5)
        return super().step(closure)


class KeepsQueue(Sgd):
    def step(self, closure: Any = None) -> Any:
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["losses"] = collections.deque([1.0])
        return super().step(closure)


class KeepsLambda(Sgd):
    def step(self, closure: Any = None) -> Any:
        self.state["rule"] = lambda lr: lr  # type: ignore[index]
        return super().step(closure)


def loss_of(answer: Any) -> Any:
    def loss(model: Any, batch: Tensor, generator: torch.Generator) -> Any:
        squares = (model(batch, torch.zeros(len(batch))) - batch).square()
        return answer(squares)

    return loss


OWN: dict[str, Any] = {
    **{kind.__name__: kind for kind in Net.__subclasses__()},
    **{kind.__name__: kind for kind in Sgd.__subclasses__()},
    "Net": Net,
    "no_module": lambda shape: None,
    "a_class": lambda shape: Net,
    "no_optimizer": lambda params, lr: None,
    "a_number": loss_of(lambda squares: squares.mean().item()),
    "a_vector": loss_of(lambda squares: squares.mean((1, 2, 3))),
    "a_pair": loss_of(lambda squares: (squares.mean(), {})),
    "imaginary": loss_of(lambda squares: squares.mean() * 1j),
    "no_answer": loss_of(lambda squares: None),
}


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModuleType("rehearsed")
    vars(own).update(OWN)
    monkeypatch.setitem(sys.modules, "rehearsed", own)


def config_of(model: str = "Net", optimizer: str = "adam", **keys: Any) -> TrialConfig:
    name = (
        optimizer if optimizer in ("adam", "adamw", "sgd", "rmsprop") else f"rehearsed:{optimizer}"
    )
    return make_config(
        model={"type": f"rehearsed:{model}"}, optimizer={"type": name, "lr": 1e-3}, **keys
    )


def tried(config: TrialConfig) -> None:
    try_settings(config, [config], load_data(config.dataset))


FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "extra state": (
        {"model": "Stateful"},
        "trial.model: rehearsed:Stateful can't be exported: .* '_extra_state', a dict with the",
    ),
    "a buffer that appears": ({"model": "Grows"}, "can't be loaded"),
    "lazy": ({"model": "Lazy"}, "trial.model: rehearsed:Lazy: the shape of layer.weight is not"),
    "fails in training": ({"model": "TrainsBadly"}, "a first step fails: RuntimeError: only in"),
    "a pair": ({"model": "Pair"}, "rehearsed:Pair answers a tuple of 2 .a Tensor of float32 with"),
    "a mapping": ({"model": "Mapping"}, "answers a dict with the keys 'sample', want a tensor"),
    "nothing": ({"model": "Nothing"}, "rehearsed:Nothing answers None, want a tensor of floats"),
    "whole numbers": ({"model": "Whole"}, "answers a Tensor of int64"),
    "complex numbers": ({"model": "Imaginary"}, "answers a Tensor of complex64"),
    "no module": ({"model": "no_module"}, "rehearsed:no_module returned None, want a torch.nn"),
    "a class": ({"model": "a_class"}, "returned the class Net, not an object of it"),
    "no optimizer": ({"optimizer": "no_optimizer"}, "returned None, want a torch Optimizer"),
    "numpy in its state": (
        {"optimizer": "KeepsNumber"},
        "rehearsed:KeepsNumber: its training can't be loaded from a checkpoint: .*; state may",
    ),
    "a queue in its state": (
        {"optimizer": "KeepsQueue"},
        "rehearsed:KeepsQueue: its training can't be loaded from a checkpoint",
    ),
    "code in its state": (
        {"optimizer": "KeepsLambda"},
        "rehearsed:KeepsLambda: its training can't be saved",
    ),
    "a loss that is a number": ({"loss": "rehearsed:a_number"}, r"answers \d\.\d+, need a scalar"),
    "a loss of each": ({"loss": "rehearsed:a_vector"}, "answers a Tensor of float32 with shape"),
    "a loss and more": ({"loss": "rehearsed:a_pair"}, "answers a tuple of 2"),
    "a complex loss": ({"loss": "rehearsed:imaginary"}, "answers a Tensor of complex64"),
    "no loss": ({"loss": "rehearsed:no_answer"}, "trial.loss: rehearsed:no_answer answers None"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_would_break_a_trial_is_one_line_before_it_begins(case: str) -> None:
    keys, fault = FAULTS[case]
    with pytest.raises(ValueError, match=fault) as raised:
        tried(config_of(**keys))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_complex_weights_are_trained(optimizer: str) -> None:
    config = config_of("Complex", optimizer, clip_norm=1.0)
    tried(config)
    state = TrainState(config, load_data(config.dataset))
    before = state.model.modes.detach().clone()  # type: ignore[operator, union-attr]
    train_until(state, 3 * config.batch_size)
    assert state.diverged_at is None and not torch.equal(before, state.model.modes)  # type: ignore[arg-type]


def test_a_rehearsal_leaves_the_random_streams_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    config = config_of()
    rehearse(config, load_data(config.dataset))
    assert torch.equal(torch.rand(4), expected)


def test_the_cause_comes_before_the_advice() -> None:
    def compiler() -> None:
        raise FileNotFoundError("no working C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1 for more")

    def backend() -> None:
        try:
            compiler()
        except FileNotFoundError as error:
            raise RuntimeError("the backend failed\nCheck the documentation") from error

    with pytest.raises(RuntimeError) as raised:
        backend()
    said = cause(raised.value)
    assert said.startswith("RuntimeError: the backend failed (test_rehearsal.py:")
    assert ", from FileNotFoundError: no working C++ compiler (test_rehearsal.py:" in said
    assert "VERBOSE" not in said and "documentation" not in said
    assert cause(KeyError()) == "KeyError: no message"
