"""Optimizers of the shelf that torch has: Adam and its relatives, SGD, RMSProp, Adafactor."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from trainable.optimizers.entry import (
    AS_DIFFUSERS,
    CLIPPED,
    AdamLike,
    Beta,
    Bytes,
    Decay,
    Eps,
    OptimizerEntry,
    log,
    log_from_one,
)


class Adam(AdamLike):
    """Kingma & Ba 2015. Weight decay, if any, is the coupled L2 penalty."""

    target: ClassVar[str] = "torch.optim:Adam"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    state_bytes: ClassVar[Bytes] = 8.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-5, 1e-2),  # measured optimum 3e-3; 1e-4 is what scripts ship with
        "beta1": log_from_one(0.7, 0.98),
        "beta2": [0.95, 0.99, 0.999],
    }
    # Ho et al. 2020 and the scripts that follow it: constant from the start, no clipping
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 1e-4}}
    type: Literal["adam"] = "adam"


class AdamW(AdamLike):
    """Loshchilov & Hutter 2019: Adam with decoupled weight decay."""

    target: ClassVar[str] = "torch.optim:AdamW"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    state_bytes: ClassVar[Bytes] = 8.0
    ranges: ClassVar[dict[str, Any]] = {**Adam.ranges, "weight_decay": log(1e-6, 1e-1)}
    # diffusers, train_unconditional.py
    published: ClassVar[dict[str, Any]] = {
        "optimizer": {"lr": 1e-4, "beta1": 0.95, "weight_decay": 1e-6},
        **AS_DIFFUSERS,
    }
    type: Literal["adamw"] = "adamw"
    weight_decay: Decay = 0.01


class SGD(OptimizerEntry):
    """Stochastic gradient descent with (Nesterov) momentum (Sutskever et al. 2013)."""

    target: ClassVar[str] = "torch.optim:SGD"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    state_bytes: ClassVar[Bytes] = 4.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-3, 1.0),  # measured optimum 0.1; without clipping, 0.3 diverges
        "momentum": log_from_one(0.7, 0.995),
        "nesterov": [True, False],
    }
    # the textbook setting; clipped, since SGD diverges without it
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 0.1, "momentum": 0.9}, **CLIPPED}
    type: Literal["sgd"] = "sgd"
    momentum: Beta = 0.9
    nesterov: bool = False
    weight_decay: Decay = 0.0


class RMSProp(OptimizerEntry):
    """Tieleman & Hinton 2012: a running mean of squared gradients, and momentum if asked for."""

    target: ClassVar[str] = "torch.optim:RMSprop"
    fixed: ClassVar[dict[str, Any]] = {"foreach": True}
    state_bytes: ClassVar[Bytes] = 4.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-5, 3e-3),  # measured optimum 1e-3
        "alpha": [0.9, 0.99, 0.999],
        "momentum": [0.0, 0.9],
        "eps": [1e-8, 1e-6],
    }
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 1e-3}, **CLIPPED}
    type: Literal["rmsprop"] = "rmsprop"
    alpha: Beta = 0.99
    momentum: Beta = 0.0
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class NAdam(AdamLike):
    """Dozat 2016: Adam with Nesterov momentum; weight decay is decoupled (NAdamW)."""

    target: ClassVar[str] = "torch.optim:NAdam"
    fixed: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True, "foreach": True}
    state_bytes: ClassVar[Bytes] = 8.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-5, 1e-2),
        "beta1": log_from_one(0.9, 0.996),  # AlgoPerf's NAdamW
        "weight_decay": log(5e-3, 1.0),
    }
    published: ClassVar[dict[str, Any]] = {
        "optimizer": {"lr": 2e-3, "weight_decay": 1e-2},
        **CLIPPED,
    }
    type: Literal["nadam"] = "nadam"


class RAdam(AdamLike):
    """Liu et al. 2020: Adam that waits for its variance to settle; weight decay is decoupled."""

    target: ClassVar[str] = "torch.optim:RAdam"
    fixed: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True, "foreach": True}
    state_bytes: ClassVar[Bytes] = 8.0
    ranges: ClassVar[dict[str, Any]] = {
        "lr": log(1e-5, 1e-2),
        "weight_decay": [0.0, 1e-4, 1e-2],  # Liu et al. 2020
    }
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 1e-3}, **CLIPPED}
    type: Literal["radam"] = "radam"


class Adafactor(OptimizerEntry):
    """Shazeer & Stern 2018: no momentum, and a factored second moment; vectors keep a whole one.

    `lr` is relative to the size of each weight tensor, and falls as 1/sqrt(step) once that is
    less. Convolutions are flattened to matrices, edges treated as the rest.
    """

    target: ClassVar[str] = "trainable.optimizers.adafactor:MatrixAdafactor"
    fixed: ClassVar[dict[str, Any]] = {"foreach": True}
    state_bytes: ClassVar[Bytes] = 0.115
    ranges: ClassVar[dict[str, Any]] = {"lr": log(1e-3, 1e-1)}  # relative to weights
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 1e-2}}
    type: Literal["adafactor"] = "adafactor"
    weight_decay: Decay = 0.0


CLASSICAL = (Adam, AdamW, SGD, RMSProp, NAdam, RAdam, Adafactor)
