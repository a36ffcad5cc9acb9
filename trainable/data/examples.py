"""What examples and labels have to be, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

MIN_EXAMPLES = 8
FEW_CLASSES = 1000  # that are taken as they are, whether they occur or not
LISTED = 1000  # columns of examples, up to which each is looked at for values that merge
MERGED = 0.1  # of the distinct values of a column that float32 may lose: rounding does


class Examples(Protocol):
    """An array, or what is like one."""

    @property
    def dtype(self) -> np.dtype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


def check_kind(x: Examples, name: str) -> None:
    """Raises ValueError where an array can't hold examples: too few, or of another kind."""
    floats = x.dtype.kind == "f" and len(x.shape) >= 2
    if not floats and not (x.dtype == np.uint8 and len(x.shape) == 4):
        hint = ""
        if x.dtype == np.uint8 and len(x.shape) == 3:
            hint = "; grey images need an axis for their channel, x[..., None]"
        elif x.dtype.kind in "iub" and len(x.shape) >= 2:
            hint = "; scale whole numbers to about [-1, 1], as floats"
        raise ValueError(
            f"dataset {name}: got an array of {x.dtype} with shape {x.shape}, need floats "
            f"[N, *shape] or uint8 images [N, H, W, C]{hint}"
        )
    if x.shape[0] < MIN_EXAMPLES:
        raise ValueError(f"dataset {name}: {counted(x.shape[0])}, need at least {MIN_EXAMPLES}")
    if 0 in x.shape:
        raise ValueError(f"dataset {name}: examples of shape {x.shape[1:]} hold nothing")


def check_finite(x: np.ndarray, name: str, what: str = "") -> None:
    """Raises ValueError for examples that float32 can't hold."""
    bad = np.flatnonzero(~np.isfinite(as_float32(x)).reshape(len(x), -1).all(1))
    if len(bad):
        verb = "with" if not what else "have"
        raise ValueError(
            f"dataset {name}: {what}{counted(len(bad))} of {len(x)} {verb} NaN or infinity, "
            f"the first is number {bad[0]}"
        )


def as_float32(x: np.ndarray) -> np.ndarray:
    """The same numbers as float32, where those that are too large for it are infinite."""
    with np.errstate(over="ignore"):
        single: np.ndarray = np.ascontiguousarray(x, dtype=np.float32)
    return single


def as_float64(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Numbers as float64; whole ones that it can't hold, as what they are above the smallest.

    Nanoseconds are such. What is standardised does not depend on where it is counted from.
    """
    if x.dtype.kind not in "iu" or not x.size or max(int(x.max()), -int(x.min())) < 2**53:
        return np.asarray(x, np.float64)
    lowest = x.min(axes, keepdims=True)
    above = x.astype(np.uint64) - lowest.astype(np.uint64)  # exact, as it wraps
    exact: np.ndarray = above.astype(np.float64)
    return exact


def check_labels(
    labels: np.ndarray, examples: int, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int64, one for each example, or conditions as float32, a tensor for each; notes.

    Raises:
        ValueError: they are neither, or name far more classes than occur.
    """
    if labels.dtype.kind == "f" and labels.ndim and len(labels) == examples:
        check_finite(labels, name, "the conditions of ")
        conditions = as_float32(labels).reshape(examples, *(labels.shape[1:] or (1,)))
        if not conditions.size:
            raise ValueError(f"dataset {name}: conditions of shape {labels.shape} hold nothing")
        whole = labels.size == examples and (labels == np.rint(labels)).all()
        note = "labels are floats, so they condition as numbers; as whole numbers they are classes"
        return conditions, (note,) if whole else ()
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.shape != (examples,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"dataset {name}: got labels of {labels.dtype} with shape {labels.shape}, need "
            f"whole numbers from 0 with shape ({examples},), or floats with {examples} rows"
        )
    classes, occur = int(labels.max()) + 1, len(np.unique(labels))
    if 2 * occur >= classes:
        return labels.astype(np.int64), ()
    said = f"labels go up to {classes - 1}, which makes {classes} classes, of which {occur} occur"
    if classes > max(FEW_CLASSES, examples):
        raise ValueError(
            f"dataset {name}: {said}; number those from 0, as numpy.unique(labels, "
            "return_inverse=True)[1] does"
        )
    return labels.astype(np.int64), (said,)


def merged(before: np.ndarray, after: np.ndarray, columns: Sequence[str]) -> tuple[str, ...]:
    """A note for the first column or channel of which float32 keeps fewer values, if there is one.

    Of examples with many axes nothing is said: they are measurements, in which that is rounding.
    """
    inner = int(np.prod(before.shape[1:2]))
    if before.ndim > 3 or inner > LISTED:
        return ()
    for number in range(inner):
        given, left = (len(np.unique(x[:, number])) for x in (before, after))
        if left < (1 - MERGED) * given:
            which = column_named(columns, number)
            return (f"{which}: {given} distinct values become {left} in float32",)
    return ()


def column_named(columns: Sequence[str], number: int) -> str:
    """A column or channel by its name, or else by its number."""
    if number < len(columns):
        return f"column '{columns[number]}'"
    return f"column or channel {number} (counted from 0)"


def counted(n: int) -> str:
    return f"{n} example" + "s" * (n != 1)
