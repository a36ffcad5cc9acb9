"""Optimizers of the shelf whose state has 8 bits: CUDA only, by bitsandbytes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from trainable.optimizers.classical import Adam, AdamW
from trainable.optimizers.entry import AdamLike, Beta, Bytes, Decay, OptimizerEntry
from trainable.optimizers.recent import Lion


class EightBit(OptimizerEntry):
    """State in 8 bits, in blocks (Dettmers et al. 2022); tensors under 4096 weights keep 32.

    Needs bitsandbytes and CUDA, so the bytes could not be measured here.
    """

    state_bytes: ClassVar[Bytes] = None


class Adam8bit(EightBit, AdamLike):
    """Adam with its state in 8 bits."""

    target: ClassVar[str] = "bitsandbytes.optim:Adam8bit"
    ranges: ClassVar[dict[str, Any]] = Adam.ranges
    published: ClassVar[dict[str, Any]] = Adam.published
    type: Literal["adam8bit"] = "adam8bit"


class AdamW8bit(EightBit, AdamLike):
    """AdamW with its state in 8 bits."""

    target: ClassVar[str] = "bitsandbytes.optim:AdamW8bit"
    ranges: ClassVar[dict[str, Any]] = AdamW.ranges
    published: ClassVar[dict[str, Any]] = AdamW.published
    type: Literal["adamw8bit"] = "adamw8bit"
    weight_decay: Decay = 0.01


class Lion8bit(EightBit):
    """Lion with its state in 8 bits."""

    target: ClassVar[str] = "bitsandbytes.optim:Lion8bit"
    ranges: ClassVar[dict[str, Any]] = Lion.ranges
    published: ClassVar[dict[str, Any]] = Lion.published
    type: Literal["lion8bit"] = "lion8bit"
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    weight_decay: Decay = 0.0


EIGHT_BIT = (Adam8bit, AdamW8bit, Lion8bit)
