"""A batch: examples with their noise and noise levels."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Examples x0 and their noise, [B, *shape], labels [B] if there are any, and quantiles u."""

    x0: Tensor
    labels: Tensor | None
    noise: Tensor
    u: Tensor

    def split(self, size: int) -> list[Batch]:
        """Micro-batches of at most `size` examples."""
        if size >= len(self.x0):
            return [self]
        cuts = [slice(start, start + size) for start in range(0, len(self.x0), size)]
        x0, labels, noise, u = self
        return [
            Batch(x0[cut], None if labels is None else labels[cut], noise[cut], u[cut])
            for cut in cuts
        ]
