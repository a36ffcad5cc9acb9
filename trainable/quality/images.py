"""Pictures of samples, for people to look at."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

GRID_IMAGES = 36
GRID_SIZE = 512  # pixels of a grid's longer side, about
POINTS, DOT = 256, 2  # how many are drawn where none were measured; pixels of a dot's radius


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether examples of this shape, (C, H, W), can be shown as grey or colour images."""
    return len(shape) == 3 and shape[0] in (1, 3)


def write_grid(x: Tensor, path: Path) -> None:
    """Write images x, [N, C, H, W] in [-1, 1], as one PNG with a margin between them."""
    n, channels, height, width = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    margin = max(1, width // 16)
    grid = np.full(
        (rows * (height + margin) - margin, columns * (width + margin) - margin, channels),
        255,
        np.uint8,
    )
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for index, image in enumerate(pixels):
        top, left = (index // columns) * (height + margin), (index % columns) * (width + margin)
        grid[top : top + height, left : left + width] = image
    picture = Image.fromarray(grid.squeeze(-1) if channels == 1 else grid)
    scale = max(1, GRID_SIZE // max(picture.size))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(
        path
    )


def write_points(x: Tensor, limit: float, path: Path) -> None:
    """Write points x, [N, 2 or 3] within +-limit, as dots in a square; of three, the outer two."""
    picture = Image.new("L", (GRID_SIZE, GRID_SIZE), 255)
    pen = ImageDraw.Draw(picture)
    across, up = x[:, 0], -x[:, -1]
    for point in torch.stack((across, up), 1).div(limit).add(1).mul(GRID_SIZE / 2).tolist():
        pen.ellipse([*(place - DOT for place in point), *(place + DOT for place in point)], fill=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
