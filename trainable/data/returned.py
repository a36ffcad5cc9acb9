"""What a loader returned, understood: one check for all that a function of the user's may return.

What is no array of examples is refused with what it is and what is wanted; nothing is guessed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from trainable.base.described import described
from trainable.base.shelf import told
from trainable.data.sharded import Shard, Sharded

WANTED = (
    "want examples, floats [N, *shape] or uint8 images [N, H, W, C], alone or in a pair with "
    "labels [N]"
)


class Loaded(NamedTuple):
    """Examples [N, *shape], and what else a loader of the shelf knows of them."""

    x: Any
    labels: Any = None  # [N], or conditions [N, ...]
    columns: tuple[str, ...] = ()  # names of the columns of a table, or of the channels
    notes: tuple[str, ...] = ()  # what people should know, a line each


def understood(returned: Any, name: str) -> Loaded:
    """What `name` returned, as arrays or as examples in files.

    Raises:
        ValueError: it is neither examples nor a pair of them and labels.
    """
    if isinstance(returned, Loaded):
        return returned
    pair = isinstance(returned, tuple | list) and len(returned) == 2
    if isinstance(returned, tuple) and not pair:
        raise ValueError(f"dataset {name}: returned {described(returned)}; {WANTED}")
    x, labels = returned if pair else (returned, None)
    examples = _array(x, name, returned)
    return Loaded(examples, None if labels is None else _array(labels, name, returned))


def _array(value: Any, name: str, returned: Any) -> np.ndarray | Sharded:
    """A part of what was returned, as an array."""
    if isinstance(value, Sharded):
        return value
    if isinstance(value, np.memmap):  # stays in its file
        try:
            return Sharded((Shard.of(value),)) if value.ndim else np.asarray(value)
        except ValueError as error:
            raise ValueError(f"dataset {name}: {error}") from error
    fault = _not_an_array(value)
    if fault is not None:
        raise ValueError(f"dataset {name}: returned {described(returned)}{fault}; {WANTED}")
    try:
        return _converted(value)
    except Exception as error:
        raise ValueError(
            f"dataset {name}: returned {described(returned)}, which is no array: {told(error)}; "
            f"{WANTED}"
        ) from error


def _not_an_array(value: Any) -> str | None:
    """Why a value can't be examples, if it can't: what to do about it, as far as that is known."""
    if value is None:
        return " (does it lack a return?)"
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        return ", of which values are masked"
    if isinstance(value, list):
        first = value[0] if value else None
        if isinstance(first, tuple) and len({np.shape(part) for part in first}) > 1:
            return ", a list of pairs"
        return ", a list of mappings" if isinstance(first, dict) else None
    if hasattr(value, "detach") or hasattr(value, "__array__"):
        return None
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not _plain(value):
        return " (stack its examples into one array)"
    return ""


def _plain(value: Any) -> bool:
    return isinstance(value, dict | str | bytes)


def _converted(value: Any) -> np.ndarray:
    """An array of numpy's from what holds one: a tensor, a frame, or a list of such."""
    if hasattr(value, "detach"):  # a tensor; torch is not imported for this
        tensor = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # numpy has no such numbers
            tensor = tensor.float()
        return np.asarray(tensor.resolve_conj().resolve_neg().numpy())
    if isinstance(value, list) and any(hasattr(part, "detach") for part in value):
        return np.stack([_converted(part) for part in value])
    return np.asarray(value)
