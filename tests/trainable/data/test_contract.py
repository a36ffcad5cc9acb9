"""What every dataset of the shelf keeps to; a new entry is tested at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainable.config import TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.data.shelf import DATASETS


def images(folder: Path) -> dict[str, Any]:
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return {"path": str(folder), "size": 8}


def series(folder: Path) -> dict[str, Any]:
    path = folder / "series.npz"
    np.savez(path, np.random.default_rng(0).standard_normal((3, 400)))
    return {"path": str(path), "window": 16}


def shards(folder: Path) -> dict[str, Any]:
    for number in range(2):
        rows = np.random.default_rng(number).uniform(-1, 1, (20, 3)).astype(np.float32)
        np.save(folder / f"{number}.npy", rows)
    return {"path": str(folder)}


# what an entry needs that has no data by itself; the others are loaded as they are
NEEDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": images,
    "table": lambda _: {"name": "wine"},
    "trajectories": series,
    "shards": shards,
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_gives_three_parts_that_are_the_same_every_time(
    name: str, tmp_path: Path
) -> None:
    knobs = NEEDS[name](tmp_path) if name in NEEDS else {}
    config = TrialSettings.model_validate({"dataset": {"type": name, **knobs}}).dataset
    try:
        data = load_data(config)
    except ValueError as error:
        if "pip install" in str(error):  # its package is one of the extras
            pytest.skip(str(error))
        raise
    again = load_data(config)
    assert isinstance(data, Data) and data.fingerprint == again.fingerprint
    assert all(len(part.x) for part in data.parts) and len(data.shape) >= 1
    x = data.validation.x
    assert x.dtype == np.uint8 or (x.dtype == np.float32 and np.isfinite(x).all())
    given = data.validation.labels
    assert given is None or len(given) == len(x)
