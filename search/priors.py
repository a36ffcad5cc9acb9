"""What is known of each optimizer before a search: ranges to search, and published defaults.

Learning rates span the published optima and those that were measured on small diffusion models
(eps-prediction on 8 x 8 digits, 2-D points and a table of 30 columns, 257 runs). Momentum, betas
and weight decay follow AlgoPerf (Dahl et al. 2023) where it has the optimizer, else its paper.
"""

from __future__ import annotations

from typing import Any


def _log(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log": True}


def _from_one(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log_from_one": True}


_ADAM: dict[str, Any] = {
    "lr": _log(1e-5, 1e-2),  # measured optimum 3e-3; 1e-4 is what scripts ship with
    "beta1": _from_one(0.7, 0.98),
    "beta2": [0.95, 0.99, 0.999],
}
_ADAMW = {**_ADAM, "weight_decay": _log(1e-6, 1e-1)}
_LION: dict[str, Any] = {
    "lr": _log(1e-6, 3e-3),  # a third to a tenth of AdamW's (Chen et al. 2023); measured: 1e-3
    "beta1": [0.9, 0.95],
    "beta2": [0.98, 0.99],
    "weight_decay": _log(1e-4, 1.0),  # three to ten times AdamW's
}
# The ranges that a bare name takes.
DEFAULT_KNOBS: dict[str, dict[str, Any]] = {
    "adam": _ADAM,
    "adamw": _ADAMW,
    "sgd": {
        "lr": _log(1e-3, 1.0),  # measured optimum 0.1; without clipping, 0.3 diverges
        "momentum": _from_one(0.7, 0.995),
        "nesterov": [True, False],
    },
    "rmsprop": {
        "lr": _log(1e-5, 3e-3),  # measured optimum 1e-3
        "alpha": [0.9, 0.99, 0.999],
        "momentum": [0.0, 0.9],
        "eps": [1e-8, 1e-6],
    },
    "nadam": {
        "lr": _log(1e-5, 1e-2),
        "beta1": _from_one(0.9, 0.996),  # AlgoPerf's NAdamW
        "weight_decay": _log(5e-3, 1.0),
    },
    "radam": {"lr": _log(1e-5, 1e-2), "weight_decay": [0.0, 1e-4, 1e-2]},  # Liu et al. 2020
    "adafactor": {"lr": _log(1e-3, 1e-1)},  # relative to the size of the weights
    "muon": {
        "lr": _log(3e-4, 3e-2),  # measured optimum 3e-3, with updates scaled to AdamW's
        "momentum": _from_one(0.85, 0.98),
        "weight_decay": [0.0, 1e-2, 1e-1],
    },
    "soap": {
        "lr": _log(3e-4, 1e-2),  # measured optimum 3e-3
        "beta1": [0.9, 0.95],
        "beta2": [0.95, 0.99, 0.999],
        "weight_decay": [0.0, 1e-4, 1e-2],
    },
    "lion": _LION,
    "schedulefree_adamw": {
        "lr": _log(3e-4, 3e-2),  # up to ten times AdamW's (Defazio et al. 2024); measured: 3e-3
        "beta1": [0.9, 0.95, 0.98],
        "weight_decay": [0.0, 1e-4, 1e-2],
    },
    "prodigy": {
        "lr": _log(0.3, 3.0),  # a factor of its own estimate
        "beta2": [0.99, 0.999],
        "weight_decay": [0.0, 1e-2],
    },
    "ademamix": {
        "lr": _log(1e-4, 1e-2),
        "alpha": {"low": 5.0, "high": 8.0},  # Pagliardini et al. 2025
        "weight_decay": [0.0, 1e-2, 1e-1],
    },
    "adam8bit": _ADAM,
    "adamw8bit": _ADAMW,
    "lion8bit": _LION,
}

# What people train with today; tried before anything is searched. The "before" of a search is the
# first of Adam and AdamW.
_DIFFUSERS = {"warmup": 0.05, "lr_schedule": "cosine", "clip_norm": 1.0}
_DIFFUSERS_ADAMW = {"lr": 1e-4, "beta1": 0.95, "weight_decay": 1e-6}
PUBLISHED: dict[str, dict[str, Any]] = {
    # diffusers, train_unconditional.py
    "adamw": {"optimizer": {"type": "adamw", **_DIFFUSERS_ADAMW}, **_DIFFUSERS},
    "adamw8bit": {"optimizer": {"type": "adamw8bit", **_DIFFUSERS_ADAMW}, **_DIFFUSERS},
    # Ho et al. 2020 and the scripts that follow it: constant from the start, no clipping
    "adam": {"optimizer": {"type": "adam", "lr": 1e-4}},
    "adam8bit": {"optimizer": {"type": "adam8bit", "lr": 1e-4}},
    # the textbook setting; clipped, since SGD diverges without it
    "sgd": {"optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9}, "clip_norm": 1.0},
    "rmsprop": {"optimizer": {"type": "rmsprop", "lr": 1e-3}, "clip_norm": 1.0},
    # the authors' and the libraries' own defaults
    "nadam": {
        "optimizer": {"type": "nadam", "lr": 2e-3, "weight_decay": 1e-2},
        "clip_norm": 1.0,
    },
    "radam": {"optimizer": {"type": "radam", "lr": 1e-3}, "clip_norm": 1.0},
    "adafactor": {"optimizer": {"type": "adafactor", "lr": 1e-2}},
    "lion": {"optimizer": {"type": "lion", "lr": 3e-4, "weight_decay": 1e-2}, "clip_norm": 1.0},
    "lion8bit": {
        "optimizer": {"type": "lion8bit", "lr": 3e-4, "weight_decay": 1e-2},
        "clip_norm": 1.0,
    },
    # Semenov et al. 2025, tuned for a language model of 124 M weights
    "muon": {"optimizer": {"type": "muon", "lr": 1e-3, "momentum": 0.95}, **_DIFFUSERS},
    "soap": {
        "optimizer": {"type": "soap", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999},
        **_DIFFUSERS,
    },
    "schedulefree_adamw": {
        "optimizer": {"type": "schedulefree_adamw", "lr": 1e-3, "beta2": 0.9999},
        "warmup": 0.05,
        "clip_norm": 1.0,
    },
    "prodigy": {"optimizer": {"type": "prodigy", "lr": 1.0}, **_DIFFUSERS},
    "ademamix": {"optimizer": {"type": "ademamix", "lr": 1e-3, "alpha": 8.0}, **_DIFFUSERS},
}
