"""Loading and splitting: examples become float32 arrays in three disjoint parts."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from trainable.data import DatasetConfig

SPLIT_SEED = 0  # of the data, not of a trial: every trial and every seed sees the same three parts
HELD_OUT = 0.15  # of the examples for validation, and as many for the test
MIN_EXAMPLES = 8


class Kind(Protocol):
    """What a model has to know of its data."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> int: ...


class Part(NamedTuple):
    """Examples x, float32 [N, *shape], and their labels, int64 [N], if the dataset has them."""

    x: np.ndarray
    labels: np.ndarray | None


class Data(NamedTuple):
    """Training, validation (the search decides on it) and test (only reports see it)."""

    train: Part
    validation: Part
    test: Part

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.x.shape[1:]

    @property
    def classes(self) -> int:
        """How many classes the labels name; 0 without labels."""
        parts = [part.labels for part in self if part.labels is not None]
        return int(max(labels.max() for labels in parts)) + 1 if parts else 0


def load_data(config: DatasetConfig) -> Data:
    """Load what `config` names, check it, and split it.

    Raises:
        ValueError: the data can't be trained on; the message says which examples and why.
    """
    loaded = config.load()(**config.knobs())
    x, labels = loaded if isinstance(loaded, tuple) else (loaded, None)
    x = check_examples(np.asarray(x), config.type)
    if labels is not None:
        labels = check_labels(np.asarray(labels), len(x), config.type)
    return split(x, labels)


def check_examples(x: np.ndarray, name: str) -> np.ndarray:
    """Examples as float32 in channels-first order.

    uint8 images [N, H, W, C] are scaled to [-1, 1]; floats are taken as they are.
    """
    if len(x) < MIN_EXAMPLES:
        raise ValueError(f"dataset {name}: {_count(len(x))}, need at least {MIN_EXAMPLES}")
    if x.ndim < 2 or x.dtype.kind not in "fu":
        raise ValueError(
            f"dataset {name}: got an array of {x.dtype} with shape {x.shape}, need floats "
            "[N, *shape] or uint8 images [N, H, W, C]"
        )
    if x.dtype == np.uint8:
        x = np.moveaxis(x, -1, 1) / np.float32(127.5) - np.float32(1)
    x = np.ascontiguousarray(x, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
    if len(bad):
        raise ValueError(
            f"dataset {name}: {_count(len(bad))} of {len(x)} with NaN or infinity, "
            f"the first is number {bad[0]}"
        )
    return x


def check_labels(labels: np.ndarray, examples: int, name: str) -> np.ndarray:
    """Labels as int64, one for each example."""
    if labels.shape != (examples,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"dataset {name}: got labels of {labels.dtype} with shape {labels.shape}, need "
            f"whole numbers from 0 with shape ({examples},)"
        )
    return labels.astype(np.int64)


def split(x: np.ndarray, labels: np.ndarray | None) -> Data:
    """Shuffle with the fixed seed of the split, and cut into the three parts."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    held_out = max(2, round(HELD_OUT * len(x)))
    cuts = np.split(order, [len(x) - 2 * held_out, len(x) - held_out])
    return Data(*(Part(x[cut], None if labels is None else labels[cut]) for cut in cuts))


def digits(labels: bool) -> Any:
    """scikit-learn's digits as images in [-1, 1], 1 x 8 x 8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images[:, None] / 8 - 1).astype(np.float32)  # grey levels 0...16
    return (x, bunch.target) if labels else x


def _count(n: int) -> str:
    return f"{n} example" + "s" * (n != 1)
