"""What a training is built from: the network, examples to call it with, and a device."""

from __future__ import annotations

import gc

import torch
from torch import Tensor, nn

from trainable.config import TrialSettings
from trainable.datasets import Data, Kind
from trainable.models import Diffusers, ModelConfig
from trainable.tensors import scaled, view

IN_TENSORS = 0.95  # of a trial's share of a GPU; CUDA itself takes some hundred MB of each process


def two_examples(data: Data) -> list[Tensor]:
    """What a model can be called with: x, t and, where the data has them, labels."""
    x, labels = data.train.take(slice(2))
    inputs = [scaled(view(x).clone()), torch.zeros(2)]
    return inputs if labels is None else [*inputs, view(labels).clone()]


def build_model(config: TrialSettings, data: Kind, time_scale: float) -> nn.Module:
    """The network for examples of the data's shape.

    Raises:
        ValueError: the model does not take examples of this shape.
    """
    entry = completed(config.model, data)
    model: nn.Module = entry.build(data.shape, data.classes, data.features, time_scale)
    return model


def completed(model: ModelConfig, data: Kind) -> ModelConfig:
    """The model with what it takes from the data's conditions, if it takes anything.

    Raises:
        ValueError: it is told something else already.
    """
    if isinstance(model, Diffusers) and isinstance(data, Data) and data.features:
        assert data.validation.labels is not None
        return model.told(data.validation.labels.shape[-1])
    return model


def pick_device(name: str) -> torch.device:
    """The device that `name` means on this machine; `auto` is a GPU of CUDA, or else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(name: str) -> None:
    """Raises ValueError where this machine has no device of that name."""
    there = {
        "cuda": torch.cuda.is_available() and torch.cuda.device_count() > 0,
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(name, True):
        raise ValueError(
            f"trial.device: torch finds no {name} device on this machine; want auto or cpu"
        )


def limit_memory(share: float) -> None:
    """Keep to a share of the GPU, so that a trial which needs more fails alone."""
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share * IN_TENSORS)


def settle() -> None:
    """Keep what is imported out of the garbage collector's sight; once, before the first training.

    It would walk through all of it, a quarter second each time, at every change of trials.
    """
    import torch._dynamo  # noqa: F401  # with the first optimizer it would come anyway

    gc.freeze()


def free_memory() -> None:
    """Give back what an ended training held, so that the next one can have it all."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
