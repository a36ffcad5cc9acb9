"""The MLP of the model shelf."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import silu

from trainable.models.embedding import Condition


class MLP(nn.Module):
    """Residual layers, each shifted and scaled by the noise level and the class.

    Args:
        shape: of one example; any, it is flattened.
        labels: number of classes, 0 for none. With labels, it is called model(x, t, labels).
        features: numbers in each example's condition, which then takes the place of a label.
        time_scale: brings the given t to about 0...1000 before it is embedded.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int,
        depth: int,
        dropout: float,
        labels: int = 0,
        features: int = 0,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.condition = Condition(width, width, labels, time_scale, features)
        self.enter = nn.Linear(size, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = silu(self.condition(t, labels))
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, condition)
        leave: Tensor = self.leave(silu(self.norm(h)))
        return leave.view(x.shape)


class Block(nn.Module):
    """x + W2 silu(W1 modulate(norm(x), condition))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.modulate(condition).chunk(2, dim=1)
        h = self.inner(self.norm(x) * (1 + scale) + shift)
        out: Tensor = x + self.outer(self.dropout(silu(h)))
        return out
