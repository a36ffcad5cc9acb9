"""Images flipped and shifted at random before they are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from trainable.data.shelf import Augmentation

ALL = slice(None)


class Augment:
    """Each image flipped left to right half of the time, and moved by up to `crop` pixels.

    What would come in from outside is the image mirrored at its edge. The draws come from a
    stream of their own: whether there is augmentation does not change the noise.

    Raises:
        ValueError: the examples are no images, or smaller than they would be moved.
    """

    def __init__(
        self, config: Augmentation, shape: tuple[int, ...], seed: int, device: torch.device
    ) -> None:
        if len(shape) != 3:
            raise ValueError(f"trial.augment: is for images, got examples of shape {shape}")
        if config.crop >= min(shape[1:]):
            raise ValueError(
                f"trial.augment: crop {config.crop} needs images of more pixels a side, got "
                f"examples of shape {shape}"
            )
        self.config, self.device = config, device
        self.channels, self.height, self.width = (
            torch.arange(length, device=device) for length in shape
        )
        # of both seeds: a confirmation on fresh seeds is augmented afresh
        self.generator = torch.Generator(device).manual_seed(config.seed * 1_000_003 + seed)

    def __call__(self, x0: Tensor, part: slice = ALL, whole: int | None = None) -> Tensor:
        """Augmented images, [B, C, H, W]: all of a batch, or a part of one of `whole` images."""
        count = len(x0) if whole is None else whole
        draws = torch.rand(count, 3, generator=self.generator, device=self.device)[part]
        moves = (draws[:, :2] * (2 * self.config.crop + 1)).long() - self.config.crop
        rows = _mirrored(self.height + moves[:, :1], len(self.height))
        columns = _mirrored(self.width + moves[:, 1:], len(self.width))
        if self.config.flip:
            columns = torch.where(draws[:, 2:] < 0.5, len(self.width) - 1 - columns, columns)
        places = torch.arange(len(x0), device=self.device)[:, None, None, None]
        channels = self.channels[None, :, None, None]
        return x0[places, channels, rows[:, None, :, None], columns[:, None, None, :]]


def _mirrored(index: Tensor, length: int) -> Tensor:
    """An index that leaves 0...length - 1, reflected back into it at the edge's pixel."""
    index = index.abs()
    return torch.where(index < length, index, 2 * (length - 1) - index)
