"""The diffusion transformer of the model shelf."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from trainable.models.embedding import Condition, sinusoids


class DiT(nn.Module):
    """Tokens are patches; blocks are modulated by adaLN-Zero (Peebles & Xie 2023, figure 3).

    Args:
        shape: of one example: images (C, H, W) whose sides are multiples of `patch`, or
            trajectories (C, T) with T a multiple of it.
        labels: number of classes, 0 for none. With labels, it is called model(x, t, labels).
        features: numbers in each example's condition, which then takes the place of a label.
        time_scale: brings the given t to about 0...1000 before it is embedded.

    Raises:
        ValueError: the examples are neither, or their size is no multiple of `patch`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        labels: int = 0,
        features: int = 0,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if len(shape) not in (2, 3) or any(side % patch for side in shape[1:]):
            raise ValueError(
                f"model dit with patch {patch} needs images (C, H, W) or trajectories (C, T) "
                f"whose sides are multiples of {patch}, got examples of shape {shape}"
            )
        channels, height, length = shape if len(shape) == 3 else (shape[0], 1, shape[1])
        self.sides = (patch if len(shape) == 3 else 1, patch)
        self.grid = (height // self.sides[0], length // patch)
        self.channels = channels
        size = channels * self.sides[0] * self.sides[1]
        self.enter = nn.Linear(size, width)
        self.register_buffer("places", places(self.grid, width), persistent=False)
        self.condition = Condition(width, width, labels, time_scale, features)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, size)
        for layer in (self.modulate, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = silu(self.condition(t, labels))
        tokens = self.enter(self.cut(x)) + self.places
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulate(condition)[:, None].chunk(2, dim=2)
        return self.join(self.leave(self.norm(tokens) * (1 + scale) + shift), x)

    def cut(self, x: Tensor) -> Tensor:
        """[B, C, (H,) W] -> [B, tokens, numbers of a patch]."""
        (rows, columns), (high, wide) = self.grid, self.sides
        x = x.reshape(x.shape[0], self.channels, rows, high, columns, wide)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(x.shape[0], rows * columns, -1)

    def join(self, tokens: Tensor, x: Tensor) -> Tensor:
        """The inverse of `cut`, in the shape of x."""
        (rows, columns), (high, wide) = self.grid, self.sides
        tokens = tokens.reshape(x.shape[0], rows, columns, self.channels, high, wide)
        return tokens.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


class Block(nn.Module):
    """Attention and a two-layer MLP, each between adaLN-Zero's modulation and gate."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(condition)[:, None].chunk(
            6, dim=2
        )
        x = x + gate1 * self.attend(self.norm1(x) * (1 + scale1) + shift1)
        h = gelu(self.inner(self.norm2(x) * (1 + scale2) + shift2), approximate="tanh")
        out: Tensor = x + gate2 * self.outer(self.dropout(h))
        return out

    def attend(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        out: Tensor = self.out(attended)
        return out


def places(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed sines and cosines of each token's row and column: [tokens, width]."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    half = width // 2
    return torch.cat([sinusoids(rows.flatten(), half), sinusoids(columns.flatten(), half)], 1)
