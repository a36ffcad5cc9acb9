"""What examples and labels have to be, and what is said of those that are not."""

from __future__ import annotations

import numpy as np

MIN_EXAMPLES = 8


def check_examples(x: np.ndarray, name: str) -> np.ndarray:
    """Examples in channels-first order: uint8 images [N, H, W, C] turned, floats as float32."""
    if len(x) < MIN_EXAMPLES:
        raise ValueError(f"dataset {name}: {counted(len(x))}, need at least {MIN_EXAMPLES}")
    images = x.dtype == np.uint8 and x.ndim == 4
    if not images and (x.ndim < 2 or x.dtype.kind != "f"):
        raise ValueError(
            f"dataset {name}: got an array of {x.dtype} with shape {x.shape}, need floats "
            "[N, *shape] or uint8 images [N, H, W, C]"
        )
    if images:
        return np.ascontiguousarray(np.moveaxis(x, -1, 1))
    x = np.ascontiguousarray(x, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
    if len(bad):
        raise ValueError(
            f"dataset {name}: {counted(len(bad))} of {len(x)} with NaN or infinity, "
            f"the first is number {bad[0]}"
        )
    return x


def check_labels(labels: np.ndarray, examples: int, name: str) -> np.ndarray:
    """Labels as int64, one for each example; or conditions as float32, a tensor for each."""
    if labels.dtype.kind == "f" and len(labels) == examples:
        bad = np.flatnonzero(~np.isfinite(labels).reshape(examples, -1).all(1))
        if len(bad):
            raise ValueError(
                f"dataset {name}: the conditions of {counted(len(bad))} of {examples} have NaN or "
                f"infinity, the first is number {bad[0]}"
            )
        return labels.astype(np.float32).reshape(examples, *(labels.shape[1:] or (1,)))
    if labels.shape != (examples,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"dataset {name}: got labels of {labels.dtype} with shape {labels.shape}, need "
            f"whole numbers from 0 with shape ({examples},), or floats with {examples} rows"
        )
    return labels.astype(np.int64)


def counted(n: int) -> str:
    return f"{n} example" + "s" * (n != 1)
