"""What is tried once before anything starts, so that no trial has to find it out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from trainable.base.described import described
from trainable.base.shelf import load, told
from trainable.config import TrialSettings
from trainable.data.augment import Augment
from trainable.data.batch import Batch
from trainable.data.parts import Data
from trainable.diffusion.objective import OwnObjective
from trainable.diffusion.process import build_process
from trainable.models.build import build_model, two_examples
from trainable.models.finetune import prepare
from trainable.optimizers.build import check_eight_bit
from trainable.optimizers.eight_bit import EightBit
from trainable.optimizers.shelf import OPTIMIZERS


def try_model(settings: TrialSettings, data: Data) -> None:
    """Build the model and give it two examples, to see that it takes this data.

    Raises:
        ValueError: it does not; the message says why.
    """
    name, cpu = settings.model.type, torch.device("cpu")
    scale = build_process(settings.diffusion, cpu).time_scale
    inputs = two_examples(data)
    try:
        model = build_model(settings.model, data, scale)
        if not isinstance(model, nn.Module):
            raise ValueError(f"{name} returned {described(model)}, want a torch.nn.Module")
        lazy = [n for n, w in model.named_parameters() if isinstance(w, UninitializedParameter)]
        if lazy:
            raise ValueError(
                f"{name}: the shape of {lazy[0]} is not known before its first call; give lazy "
                "modules their sizes"
            )
        model.eval()
    except ValueError as error:
        raise ValueError(f"trial.model: {error}") from error
    except Exception as error:
        raise ValueError(f"trial.model: {name} can't be built: {told(error)}") from error
    if settings.augment is not None:
        Augment(settings.augment, data.shape, 0, cpu)
    prepare(model, settings.init, settings.freeze, settings.adapters)
    if settings.loss is not None:
        try_loss(settings.loss, model, inputs)
        return
    try:
        answer = model(*inputs)
    except Exception as error:
        raise ValueError(
            f"trial.model: {name} fails on examples of shape {data.shape}: {told(error)}"
        ) from error
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        raise ValueError(
            f"trial.model: {name} answers {described(answer)}, want a tensor of floats with shape "
            f"{tuple(inputs[0].shape)}"
        )
    shape = answer.shape
    if shape != inputs[0].shape:
        raise ValueError(
            f"trial.model: {name} answers shape {tuple(shape[1:])} to examples of shape "
            f"{data.shape}, need the same"
        )
    if not answer.requires_grad:
        some = any(weight.requires_grad for weight in model.parameters())
        what = "uses none of its weights that are trained" if some else "has no weights to train"
        raise ValueError(f"trial.model: {name} {what}")


def checkpoint_bytes(settings: TrialSettings, data: Data) -> int:
    """About how large a checkpoint of a trial is, with an optimizer that keeps two moments."""
    scale = build_process(settings.diffusion, torch.device("cpu")).time_scale
    model = build_model(settings.model, data, scale)
    weights = sum(weight.numel() for weight in model.parameters())
    copies = 1 + 1 + 2 + len(settings.ema)  # as trained, as evaluated, moments, averages
    return 4 * copies * weights


def try_loss(target: str, model: nn.Module, inputs: list[Tensor]) -> None:
    """Call a loss of the user's own once."""
    x0, t, *labels = inputs
    own = OwnObjective(target, torch.Generator())
    try:
        answer = own(model, Batch(x0, labels[0] if labels else None, torch.zeros_like(x0), t))
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"trial.loss: {target} fails: {told(error)}") from error
    if not answer.requires_grad:
        raise ValueError(f"trial.loss: {target} depends on no weight that is trained")


def try_optimizer(name: str, device: str) -> None:
    """See that an optimizer's code can be imported here, and that its device is there.

    Raises:
        ValueError: it can't be used; the message says why.
    """
    if name not in OPTIMIZERS:
        load(name)
    elif issubclass(OPTIMIZERS[name], EightBit):
        # this process need not see the GPU that the trials will hold
        check_eight_bit(name, torch.device("cuda" if device == "auto" else device))
