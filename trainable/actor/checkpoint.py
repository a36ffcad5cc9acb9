"""The whole state of a training on disk: written atomically, read without running any code."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainable.actor.kept import CHECKPOINT
from trainable.base.described import described
from trainable.base.durable import replacing
from trainable.base.tensors import place_of
from trainable.models.finetune import merged
from trainable.train import TrainState

FORMAT = 2
NAME = CHECKPOINT
TAIL = 200  # reports in a checkpoint: more than a driver can lose before they are durable


def save(
    state: TrainState,
    path: Path,
    last_report: dict[str, Any] | None,
    earlier: Sequence[dict[str, Any]] = (),
) -> None:
    """Write everything that the rest of the training depends on.

    The last reports go with it, so that those that were made but not received, or that a driver
    lost with its host, can be sent again.
    """
    content = {
        "format": FORMAT,
        "step": state.step,
        "samples": state.samples,
        "diverged_at": state.diverged_at,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "emas": state.emas.state_dict(),
        "evaluated": {
            name: weight.detach()
            for name, weight in zip(state.trained, state.evaluated(), strict=True)
        },
        "log": state.log.state_dict(),
        "rng": _rng(state),
        "last_report": last_report,
        "earlier": list(earlier)[-TAIL:],
        "shape": list(state.batches.shape),
        "classes": state.batches.classes,
        "features": state.data.features,
        "limit": state.limit,
    }
    with replacing(path) as file:
        torch.save(content, file)


def load(state: TrainState, path: Path) -> list[dict[str, Any]]:
    """Put `state` where the checkpoint at `path` was, and return the last reports before it.

    Raises:
        ValueError: the checkpoint is of a format that this version can't read.
    """
    # by way of the CPU: a GPU need not hold all twice, and steps counted on the CPU stay there
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["format"] != FORMAT:
        raise ValueError(f"{path}: checkpoint format {content['format']}, can read {FORMAT}")
    state.step, state.diverged_at = content["step"], content["diverged_at"]
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.emas.load_state_dict(content["emas"])
    state.log.load_state_dict(content["log"])
    _set_rng(state, content["rng"])
    last_report: dict[str, Any] | None = content["last_report"]
    return [] if last_report is None else [*content.get("earlier", ()), last_report]


def read_weights(path: Path, weights: str) -> dict[str, torch.Tensor]:
    """The model's state with the named weights (raw, or those of an EMA) in place of its own.

    Raw weights are those that count: a Schedule-Free optimizer trains other ones. Adapters are
    part of the weights that they adapt. Tied weights have one value under all their names.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    model: dict[str, torch.Tensor] = content["model"]
    for name, own in model.items():
        if not isinstance(own, torch.Tensor):
            raise ValueError(
                f"its state holds '{name}', {described(own)}, and weights are tensors; keep it in "
                "a buffer, or out of the state"
            )
    named = content["emas"].get(weights, content["evaluated"])
    values = {place_of(model[name]): value for name, value in named.items()}
    return merged({name: values.get(place_of(own), own) for name, own in model.items()})


def write_weights(path: Path, weights: str, to: Path) -> None:
    """Write the weights of a checkpoint, and what they need to know of their data, for others."""
    from safetensors.torch import save_file

    save_file(  # copies, since safetensors refuses tensors that share memory
        {k: tensor.contiguous().clone() for k, tensor in read_weights(path, weights).items()},
        to,
        metadata=read_kind(path),
    )
    mask = os.umask(0)
    os.umask(mask)
    to.chmod(0o666 & ~mask)  # safetensors makes it readable by us alone


def read_kind(path: Path) -> dict[str, str]:
    """What a model has to know of its examples, as safetensors' metadata has it."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    keys = ("shape", "classes", "features", "limit")
    return {key: json.dumps(content[key]) for key in keys if key in content}


def _rng(state: TrainState) -> dict[str, torch.Tensor]:
    """The random streams: noise and noise levels, and torch's own (dropout)."""
    streams = {"batches": state.batches.generator.get_state(), "torch": torch.get_rng_state()}
    if state.batches.augment is not None:
        streams["augment"] = state.batches.augment.generator.get_state()
    if state.device.type == "cuda":
        streams["cuda"] = torch.cuda.get_rng_state(state.device)
    return streams


def _set_rng(state: TrainState, streams: dict[str, torch.Tensor]) -> None:
    state.batches.generator.set_state(streams["batches"].cpu())
    torch.set_rng_state(streams["torch"].cpu())
    if state.batches.augment is not None:
        state.batches.augment.generator.set_state(streams["augment"].cpu())
    if state.device.type == "cuda":
        torch.cuda.set_rng_state(streams["cuda"].cpu(), state.device)
