"""What is known of each optimizer before a search, by name: ranges, and published defaults.

Both stand with the optimizer on its shelf (trainable/optimizers/entry.py names their sources).
"""

from __future__ import annotations

from typing import Any

from trainable.optimizers.shelf import OPTIMIZERS

# the ranges that a bare name takes
DEFAULT_KNOBS: dict[str, dict[str, Any]] = {n: entry.ranges for n, entry in OPTIMIZERS.items()}

# tried before anything is searched; the "before" of a search is the first of Adam and AdamW
PUBLISHED: dict[str, dict[str, Any]] = {
    name: entry.published | {"optimizer": {"type": name, **entry.published["optimizer"]}}
    for name, entry in OPTIMIZERS.items()
}
