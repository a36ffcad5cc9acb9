"""Optimizers of the shelf that are newer: by matrices, by signs, without a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from trainable.optimizers.entry import (
    AS_DIFFUSERS,
    CLIPPED,
    AdamLike,
    Beta,
    Bytes,
    Decay,
    InnerBeta,
    OptimizerEntry,
    log,
    log_from_one,
)

if TYPE_CHECKING:
    from torch import Tensor


class Muon(OptimizerEntry):
    """Jordan et al. 2024: hidden matrices by orthogonalized momentum, the rest by AdamW.

    The update of a matrix is scaled to the size of AdamW's (Liu et al. 2025, section 2.2), so
    that one lr serves both. Edges and vectors have no weight decay.
    """

    target: ClassVar[str] = "pytorch_optimizer:Muon"
    fixed: ClassVar[dict[str, Any]] = {"use_adjusted_lr": True, "adamw_betas": (0.9, 0.95)}
    splits: ClassVar[bool] = True
    state_bytes: ClassVar[Bytes] = 4.1
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(3e-4, 3e-2),  # measured optimum 3e-3, with updates scaled to AdamW's
        "momentum": log_from_one(0.85, 0.98),
        "weight_decay": [0.0, 1e-2, 1e-1],
    }
    # Semenov et al. 2025, tuned for a language model of 124 M weights
    published: ClassVar[dict[str, Any]] = {
        "optimizer": {"lr": 1e-3, "momentum": 0.95},
        **AS_DIFFUSERS,
    }
    type: Literal["muon"] = "muon"
    momentum: Beta = 0.95
    nesterov: bool = True
    ns_steps: int = Field(5, ge=1)  # of Newton and Schulz's iteration
    weight_decay: Decay = 0.0

    def groups(self, matrices: Sequence[Tensor], rest: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [
            {"params": weights, "use_muon": use_muon, "lr": self.lr}
            for weights, use_muon in ((matrices, True), (rest, False))
            if weights
        ]


class SOAP(AdamLike):
    """Vyas et al. 2025: Adam in the eigenbasis of Shampoo's preconditioner, of each dimension.

    Vectors are treated by Adam. The first step only measures.
    """

    target: ClassVar[str] = "pytorch_optimizer:SOAP"
    state_bytes: ClassVar[Bytes] = 13.7
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(3e-4, 1e-2),  # measured optimum 3e-3
        "beta1": [0.9, 0.95],
        "beta2": [0.95, 0.99, 0.999],
        "weight_decay": [0.0, 1e-4, 1e-2],
    }
    # Semenov et al. 2025
    published: ClassVar[dict[str, Any]] = {
        "optimizer": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999},
        **AS_DIFFUSERS,
    }
    type: Literal["soap"] = "soap"
    beta1: Beta = 0.95
    beta2: Beta = 0.95
    precondition_frequency: int = Field(10, ge=1)  # steps between updates of the eigenbasis


class Lion(OptimizerEntry):
    """Chen et al. 2023: the sign of an interpolated momentum; weight decay is decoupled."""

    target: ClassVar[str] = "pytorch_optimizer:Lion"
    state_bytes: ClassVar[Bytes] = 4.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-6, 3e-3),  # a third to a tenth of AdamW's (Chen et al. 2023); measured: 1e-3
        "beta1": [0.9, 0.95],
        "beta2": [0.98, 0.99],
        "weight_decay": log(1e-4, 1.0),  # three to ten times AdamW's
    }
    published: ClassVar[dict[str, Any]] = {
        "optimizer": {"lr": 3e-4, "weight_decay": 1e-2},
        **CLIPPED,
    }
    type: Literal["lion"] = "lion"
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    weight_decay: Decay = 0.0


class ScheduleFreeAdamW(AdamLike):
    """Defazio et al. 2024: an average of the iterates takes the place of a decaying lr.

    What is validated, averaged by the EMAs and exported is that average, not the weights that the
    gradients are taken at.
    """

    target: ClassVar[str] = "trainable.optimizers.schedule_free:ScheduleFree"
    constant_lr: ClassVar[bool] = True
    state_bytes: ClassVar[Bytes] = 8.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(3e-4, 3e-2),  # up to ten times AdamW's (Defazio et al. 2024); measured: 3e-3
        "beta1": [0.9, 0.95, 0.98],
        "weight_decay": [0.0, 1e-4, 1e-2],
    }
    # Semenov et al. 2025
    published: ClassVar[dict[str, Any]] = {
        "optimizer": {"lr": 1e-3, "beta2": 0.9999},
        "warmup": 0.05,
        "clip_norm": 1.0,
    }
    type: Literal["schedulefree_adamw"] = "schedulefree_adamw"
    beta1: InnerBeta = 0.9


class Prodigy(AdamLike):
    """Mishchenko & Defazio 2024: Adam that estimates its own step size; lr is a factor about 1.

    The estimate starts tiny and takes a few hundred steps to arrive.
    """

    target: ClassVar[str] = "pytorch_optimizer:Prodigy"
    fixed: ClassVar[dict[str, Any]] = {
        "bias_correction": True,
        "safeguard_warmup": True,
        "foreach": True,
    }
    state_bytes: ClassVar[Bytes] = 16.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(0.3, 3.0),  # a factor of its own estimate
        "beta2": [0.99, 0.999],
        "weight_decay": [0.0, 1e-2],
    }
    # Semenov et al. 2025
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 1.0}, **AS_DIFFUSERS}
    type: Literal["prodigy"] = "prodigy"


class AdEMAMix(AdamLike):
    """Pagliardini et al. 2025: Adam with a second, slow momentum; weight decay is decoupled.

    The slow momentum's weight and decay are warmed up over the whole budget, as in the paper.
    """

    target: ClassVar[str] = "pytorch_optimizer:AdEMAMix"
    fixed: ClassVar[dict[str, Any]] = {"weight_decouple": True}
    state_bytes: ClassVar[Bytes] = 12.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-4, 1e-2),
        "alpha": {"low": 5.0, "high": 8.0},  # Pagliardini et al. 2025
        "weight_decay": [0.0, 1e-2, 1e-1],
    }
    # Semenov et al. 2025
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 1e-3, "alpha": 8.0}, **AS_DIFFUSERS}
    type: Literal["ademamix"] = "ademamix"
    beta1: InnerBeta = 0.9
    beta3: InnerBeta = 0.9999  # of the slow momentum
    alpha: float = Field(8.0, ge=0)  # its weight

    def arguments(self, steps: int) -> dict[str, Any]:
        return super().arguments(steps) | {"t_alpha_beta3": float(steps)}


RECENT = (Muon, SOAP, Lion, ScheduleFreeAdamW, Prodigy, AdEMAMix)
