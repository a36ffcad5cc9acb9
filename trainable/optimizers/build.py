"""Optimizers as they are used: built over a model's weights, and read while they train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainable.base.described import described
from trainable.base.shelf import told
from trainable.optimizers.eight_bit import EightBit
from trainable.optimizers.entry import OptimizerEntry
from trainable.optimizers.shelf import OwnOptimizer

Inputs = Sequence[Tensor]  # what the model is called with: x, t, and labels if there are any


def build_optimizer(
    config: OptimizerEntry | OwnOptimizer, model: nn.Module, inputs: Inputs, steps: int
) -> Optimizer:
    """The optimizer that `config` describes, over the weights of `model` that are trained.

    Args:
        inputs: a small batch that the model can be called with.
        steps: the full budget.

    Raises:
        ValueError: the optimizer can't be built here; the message says why.
    """
    if isinstance(config, EightBit):
        check_eight_bit(config.type, next(model.parameters()).device)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    weights: Any = list(trained.values())
    if isinstance(config, OptimizerEntry) and config.splits:
        hidden = hidden_matrices(model, inputs)
        matrices = [weight for name, weight in trained.items() if name in hidden]
        rest = [weight for name, weight in trained.items() if name not in hidden]
        weights = config.groups(matrices, rest)
    arguments = config.arguments(steps)
    if any(weight.is_complex() for weight in trained.values()) and arguments.get("fused"):
        arguments["fused"] = False  # torch's fused steps take real weights alone
    try:
        optimizer = config.load()(weights, **arguments)
    except Exception as error:
        raise ValueError(f"optimizer {config.type}: {told(error)}") from error
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"optimizer {config.type}: returned {described(optimizer)}, want a torch Optimizer"
        )
    return optimizer


def check_eight_bit(name: str, device: torch.device) -> None:
    """Refuse an optimizer with 8-bit state where it can't run.

    Raises:
        ValueError: bitsandbytes is not installed, or the device is not a CUDA one.
    """
    if device.type != "cuda":
        raise ValueError(f"optimizer {name} needs a CUDA device, got {device.type}")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"optimizer {name} needs bitsandbytes: pip install 'diffsweep[8bit]'"
        ) from error


def hidden_matrices(model: nn.Module, inputs: Inputs) -> set[str]:
    """Names of the weights that are matrices between hidden layers.

    A weight of two or more dimensions is one, flattened to (its first dimension, the others),
    unless that is a single row or column, or it belongs to an embedding, to the first layer that
    sees the example x, or to the layer that is called last: those are told apart by one call.
    """
    first, last = edge_layers(model, inputs)
    embeddings = [layer for layer in model.modules() if isinstance(layer, nn.Embedding)]
    edges = {id(weight) for layer in (first, last, *embeddings) for weight in layer.parameters()}
    return {
        name
        for name, weight in model.named_parameters()
        if id(weight) not in edges and weight.ndim > 1 and 1 < len(weight) < weight.numel()
    }


def edge_layers(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, nn.Module]:
    """The first layer with a matrix that is given something made of x, and the last one called.

    A layer is a module with one matrix. A model that calls none has empty edges.
    """
    called: list[tuple[nn.Module, bool]] = []

    def note(layer: nn.Module, given: tuple[Any, ...]) -> None:
        sees_x = any(isinstance(part, Tensor) and part.requires_grad for part in given)
        called.append((layer, sees_x))

    layers = [module for module in model.modules() if _matrices_in(module) == 1]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    training = model.training
    x, *others = inputs
    try:
        for weight in trained:
            weight.requires_grad_(False)  # so that only what is made of x has a gradient
        model.eval()(x.detach().requires_grad_(True), *others)
    finally:
        model.train(training)
        for weight in trained:
            weight.requires_grad_(True)
        for handle in handles:
            handle.remove()
    first = next((layer for layer, sees_x in called if sees_x), nn.Identity())
    return first, called[-1][0] if called else nn.Identity()


def _matrices_in(module: nn.Module) -> int:
    return sum(weight.ndim > 1 for weight in module.parameters())


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of state that the optimizer keeps beside weights and gradients."""
    tensors = (t for state in optimizer.state.values() for t in _tensors(state))
    return sum(t.nbytes for t in tensors if t.ndim > 0)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def has_modes(optimizer: Optimizer) -> bool:
    """Whether the weights that it trains are not those to evaluate (Schedule-Free methods)."""
    modes = (getattr(optimizer, mode, None) for mode in ("train", "eval"))
    return all(callable(mode) for mode in modes)


@torch.no_grad()
def evaluated(optimizer: Optimizer, weights: Sequence[Tensor]) -> list[Tensor]:
    """The weights to evaluate, for an optimizer with modes; those that it trains stay as they are.

    Its own eval() and train() go there and back in place, which rounds: so the trained weights
    are put back from a copy, and how often one looks does not change the training.
    """
    if averaged := getattr(optimizer, "averaged", None):
        averages: list[Tensor] = averaged(weights)
        return averages
    trained = [weight.detach().clone() for weight in weights]
    optimizer.eval()  # type: ignore[attr-defined]
    averages = [weight.detach().clone() for weight in weights]
    optimizer.train()  # type: ignore[attr-defined]
    torch._foreach_copy_(list(weights), trained)
    return averages
