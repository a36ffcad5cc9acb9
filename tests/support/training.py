"""Optimizers that can be trained with on any machine, and what differs between two trainings."""

from __future__ import annotations

from trainable.optimizers.eight_bit import EightBit
from trainable.optimizers.shelf import OPTIMIZERS

LRS = {"sgd": 0.1, "prodigy": 1.0, "lion": 1e-3}
HERE = [name for name, entry in OPTIMIZERS.items() if not issubclass(entry, EightBit)]
TIMING = ("steps_per_second", "validation_seconds", "peak_memory_bytes")
