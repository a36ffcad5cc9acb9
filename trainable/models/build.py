"""The network of a trial, built for the shape of its data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainable.base.tensors import scaled, view
from trainable.data.parts import Data, Kind
from trainable.models.shelf import Diffusers, ModelConfig


def two_examples(data: Data) -> list[Tensor]:
    """What a model can be called with: x, t and, where the data has them, labels."""
    x, labels = data.train.take(slice(2))
    inputs = [scaled(view(x).clone()), torch.zeros(2)]
    return inputs if labels is None else [*inputs, view(labels).clone()]


def build_model(model: ModelConfig, data: Kind, time_scale: float) -> nn.Module:
    """The network that `model` means, for examples of the data's shape.

    Raises:
        ValueError: the model does not take examples of this shape.
    """
    entry = completed(model, data)
    built: nn.Module = entry.build(data.shape, data.classes, data.features, time_scale)
    return built


def completed(model: ModelConfig, data: Kind) -> ModelConfig:
    """The model with what it takes from the data's conditions, if it takes anything.

    Raises:
        ValueError: it is told something else already.
    """
    if isinstance(model, Diffusers) and isinstance(data, Data) and data.features:
        assert data.validation.labels is not None
        return model.told(data.validation.labels.shape[-1])
    return model
