"""What an optimizer is on the shelf: its class, its knobs, and what is known of it beforehand.

Weights are of three kinds: hidden matrices (of linear layers; convolutions, flattened from their
output channel), the edges (the layer that takes the example, the one that answers, embeddings),
and vectors (biases, norms). Where an entry does not say otherwise, it treats all weights alike.

Learning rates to search span the published optima and those that were measured on small diffusion
models (eps-prediction on 8 x 8 digits, 2-D points and a table of 30 columns, 257 runs). Momentum,
betas and weight decay follow AlgoPerf (Dahl et al. 2023) where it has the optimizer, else its
paper. Where no source is named, a published default is the authors' own, or the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from trainable.base.shelf import Entry

if TYPE_CHECKING:
    from torch import Tensor

Lr = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
InnerBeta = Annotated[float, Field(gt=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]
Eps = Annotated[float, Field(gt=0)]
Bytes = float | None  # per weight, measured on the default U-Net for digits; None: not measured


def log(low: float, high: float) -> dict[str, Any]:
    """A range that is searched uniformly in the logarithm."""
    return {"low": low, "high": high, "log": True}


def log_from_one(low: float, high: float) -> dict[str, Any]:
    """A range that is searched uniformly in the logarithm of 1 - value: momentum, betas."""
    return {"low": low, "high": high, "log_from_one": True}


class OptimizerEntry(Entry):
    """An optimizer and its knobs, under the names that its paper uses."""

    fixed: ClassVar[dict[str, Any]] = {}  # arguments that are no one's to search
    constant_lr: ClassVar[bool] = False  # the method itself replaces a decaying lr_schedule
    splits: ClassVar[bool] = False  # treats hidden matrices in a way of their own
    state_bytes: ClassVar[Bytes]  # that it keeps beside weights and gradients
    ranges: ClassVar[dict[str, Any]]  # that a bare name in a spec stands for, by knob
    published: ClassVar[dict[str, Any]]  # what people train with today, as keys of a TrialConfig
    lr: Lr

    def arguments(self, steps: int) -> dict[str, Any]:
        """Keyword arguments of the class at `target`, for a budget of `steps`."""
        arguments = {**self.fixed, **self.knobs()}
        betas = [arguments.pop(name) for name in BETAS if name in arguments]
        return arguments | ({"betas": tuple(betas)} if betas else {})

    def groups(self, matrices: Sequence[Tensor], rest: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Parameter groups, for an entry that `splits`."""
        return [{"params": [*matrices, *rest]}]


BETAS = ("beta1", "beta2", "beta3")


class AdamLike(OptimizerEntry):
    """The knobs that Adam and its relatives share."""

    beta1: Beta = 0.9
    beta2: Beta = 0.999
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


# of the training, beside the optimizer: what diffusers' train_unconditional.py does, and the least
# that keeps a training from diverging
AS_DIFFUSERS = {"warmup": 0.05, "lr_schedule": "cosine", "clip_norm": 1.0}
CLIPPED = {"clip_norm": 1.0}
