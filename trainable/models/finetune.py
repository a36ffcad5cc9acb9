"""Training that begins from weights which are there: loaded, frozen in part, or adapted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from trainable.base.opening import open_storage
from trainable.base.tensors import place_of
from trainable.models.shelf import Adapters

ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ORIGINAL = re.compile(r"^(.+)\.parametrizations\.weight\.original$")


def prepare(
    model: nn.Module, init: str | None, frozen: Sequence[str], adapters: Adapters | None
) -> None:
    """Load, freeze and adapt a new model's weights, as its trial asks for.

    `init` is a safetensors file, `frozen` are patterns of names of weights that stay as they are.

    Raises:
        ValueError: the weights do not fit, a pattern fits nothing, or nothing is left to train.
    """
    if init is not None:
        load_weights(model, init)
    if frozen:
        freeze(model, frozen)
    if adapters is not None:
        adapt(model, adapters)
    if frozen and not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("trial.freeze: nothing is left to train")


def load_weights(model: nn.Module, path: str) -> None:
    """Put the weights of a safetensors file, here or on S3, into the model; all have to fit.

    Raises:
        ValueError: the file can't be read, or does not hold this model's weights.
    """
    try:
        if path.startswith("s3://"):
            folder, _, name = path.rpartition("/")
            weights = load(open_storage(folder).read(name))
        else:
            weights = load_file(path)
    except FileNotFoundError as error:
        raise ValueError(f"trial.init: can't read {path}: no such file") from error
    except (OSError, SafetensorError) as error:
        raise ValueError(f"trial.init: can't read {path} as safetensors: {error}") from error
    own = model.state_dict()
    tied = {place_of(own[name]): name for name in weights if name in own}
    weights |= {  # such files have tied weights under one of their names
        name: weights[tied[place]]
        for name, weight in own.items()
        if name not in weights and (place := place_of(weight)) in tied
    }
    faults = [f"'{name}' is missing" for name in own if name not in weights]
    faults += [f"'{name}' is none of the model's" for name in weights if name not in own]
    faults += [
        f"'{name}' is {tuple(weights[name].shape)}, need {tuple(weight.shape)}"
        for name, weight in own.items()
        if name in weights and weights[name].shape != weight.shape
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise ValueError(f"trial.init: {path} does not fit: {', '.join(faults[:3])}{more}")
    model.load_state_dict(weights)


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Leave the weights whose names match a pattern (as file names do) as they are."""
    weights = dict(model.named_parameters())
    for pattern in patterns:
        names = [name for name in weights if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(
                f"trial.freeze: '{pattern}' matches no weight; the first are "
                + ", ".join(list(weights)[:5])
            )
        for name in names:
            weights[name].requires_grad_(False)


def adapt(model: nn.Module, config: Adapters) -> None:
    """Freeze all weights, and train low-rank updates of the layers whose names match."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, ADAPTED)}
    chosen: dict[str, nn.Module] = {}
    for pattern in config.patterns:
        names = [name for name in layers if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(
                f"trial.adapters: '{pattern}' matches no linear or convolution layer; the first "
                "are " + ", ".join(list(layers)[:5])
            )
        chosen |= {name: layers[name] for name in names}
    model.requires_grad_(False)
    for layer in chosen.values():
        weight = layer.get_parameter("weight")
        register_parametrization(layer, "weight", LowRank(weight, config))


class LowRank(nn.Module):
    """A weight plus alpha / rank times B A, flattened to (outputs, the rest): Hu et al. 2022.

    B begins at zero, so the model begins as it was.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, config: Adapters) -> None:
        super().__init__()
        outputs, inputs = len(weight), weight.numel() // len(weight)
        rank = min(config.rank, outputs, inputs)
        bound = 1 / math.sqrt(inputs)
        self.A = nn.Parameter(torch.empty(rank, inputs).uniform_(-bound, bound))
        self.B = nn.Parameter(torch.zeros(outputs, rank))
        alpha = config.rank if config.alpha is None else config.alpha
        self.register_buffer("scale", torch.tensor(alpha / config.rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.B @ self.A).view_as(weight)


def merged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's state with its adapters added to the weights, under the model's own names."""
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = ORIGINAL.match(name)
        inside = name.removesuffix("original") + "0." if match else ""
        if match and f"{inside}A" in state:
            update = state[f"{inside}B"] @ state[f"{inside}A"]
            plain[f"{match[1]}.weight"] = tensor + state[f"{inside}scale"] * update.view_as(tensor)
        elif not re.search(r"\.parametrizations\.weight\.0\.(A|B|scale)$", name):
            plain[name] = tensor
    return plain
