"""Two- and three-dimensional point sets of known shape, in seconds to train on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def load_points(shape: str, examples: int, noise: float, seed: int, labels: bool) -> Any:
    """Points [N, 2] or [N, 3], float32, and where they have classes these, if asked for.

    Raises:
        ValueError: labels are asked for of a shape that has none.
    """
    from sklearn.datasets import make_circles, make_moons, make_s_curve, make_swiss_roll

    if shape in ("swiss_roll", "s_curve") and labels:
        raise ValueError(f"dataset points: {shape} has no classes, set labels: false")
    make: dict[str, Callable[[], Any]] = {
        "moons": lambda: make_moons(examples, noise=noise, random_state=seed),
        "circles": lambda: make_circles(examples, noise=noise, factor=0.5, random_state=seed),
        "gaussians": lambda: gaussians(examples, noise, seed),
        "swiss_roll": lambda: make_swiss_roll(examples, noise=noise, random_state=seed),
        "s_curve": lambda: make_s_curve(examples, noise=noise, random_state=seed),
    }
    points, classes = make[shape]()
    x = np.asarray(points, np.float32)
    return (x, np.asarray(classes, np.int64)) if labels else x


def gaussians(examples: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight gaussians of deviation `noise` on the unit circle."""
    random = np.random.default_rng(seed)
    classes = random.integers(8, size=examples)
    angles = classes * np.pi / 4
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return centres + noise * random.standard_normal(centres.shape), classes
