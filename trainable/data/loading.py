"""Loading: from an entry of the shelf to data that a trial can train on."""

from __future__ import annotations

import math

import numpy as np

from trainable.base.shelf import Own, told
from trainable.data.examples import (
    as_float32,
    check_finite,
    check_kind,
    check_labels,
    column_named,
    merged,
)
from trainable.data.layout import channels_last
from trainable.data.parts import Data, Part
from trainable.data.returned import Loaded, understood
from trainable.data.sharded import Sharded
from trainable.data.shelf import DatasetConfig
from trainable.data.splitting import split, split_shards

LOUD = 2.0  # root mean square of examples beside which noise, of 1, hides too little ...
LOOKED_AT = 256  # ... in so many of them


def load_data(config: DatasetConfig) -> Data:
    """Load what `config` names, check it, split it, and standardise it if it is no image.

    Raises:
        ValueError: the data can't be trained on; the message says which examples and why.
    """
    loader = config.load()
    try:
        returned = loader(**config.knobs())
    except Exception as error:
        if isinstance(config, Own):
            raise ValueError(f"dataset {config.type}: {told(error)}") from error
        raise
    loaded = understood(returned, config.type)
    if isinstance(loaded.x, Sharded):
        data = with_scale_noted(in_shards(config, loaded))
    else:
        data = in_memory(config, loaded)
    return data._replace(notes=(*loaded.notes, *data.notes))


def in_shards(config: DatasetConfig, loaded: Loaded) -> Data:
    """Examples that stay in their files."""
    x, labels = loaded.x, loaded.labels
    last, note = channels_last(x.dtype, x.inner, getattr(config, "layout", None), config.type)
    x = x.laid(last)
    if isinstance(labels, Sharded) and labels.dtype.kind != "f":  # classes, eight bytes each
        labels = labels[:]
    data = split_shards(x, labels, config.type)
    return data._replace(notes=((note,) if note else ()) + data.notes)


def in_memory(config: DatasetConfig, loaded: Loaded) -> Data:
    """Examples as an array; of columns of numbers, in float64 until they are standardised."""
    x, name, notes = loaded.x, config.type, []
    check_kind(x, name)
    last, note = channels_last(x.dtype, x.shape[1:], getattr(config, "layout", None), name)
    if last:
        x = np.moveaxis(x, -1, 1)
    if note:
        notes.append(note)
    x = np.ascontiguousarray(x)
    labels = loaded.labels
    if labels is not None:
        labels = labels[:] if isinstance(labels, Sharded) else labels
        labels, said = check_labels(labels, len(x), name)
        notes += said
    if config.standardise:
        data = standardised(split(x.astype(np.float64), labels), name, loaded.columns)
    else:
        if x.dtype.kind == "f":
            check_finite(x, name)
            single = as_float32(x)
            notes += () if x.dtype == np.float32 else merged(x, single, ())
            x = single
        try:
            data = with_scale_noted(split(x, labels))
        except ValueError as error:
            raise ValueError("; ".join([str(error), *notes])) from error
    return data._replace(notes=(*notes, *data.notes))


def split_again(data: Data, config: DatasetConfig, seed: int) -> Data:
    """The same examples cut into other parts, and standardised by their new training part.

    Raises:
        ValueError: the examples stay in their files, or can't be cut so.
    """
    if not isinstance(data.train, Part):
        raise ValueError(f"dataset {config.type}: examples in files have one split alone")
    parts = data.train, data.validation, data.test
    labels = [part.labels for part in parts if part.labels is not None]
    x = np.concatenate([part.x for part in parts])
    found = split(x, np.concatenate(labels) if labels else None, seed)
    return standardised(found, config.type) if config.standardise else found


def standardised(data: Data, name: str, columns: tuple[str, ...] = ()) -> Data:
    """Each column or channel less its mean over the training part, in its deviations there.

    Raises:
        ValueError: one of them does not vary in the training part.
    """
    assert isinstance(data.train, Part)
    x = data.train.x
    axes = (0, *range(2, x.ndim))
    same = (x.max(axes) == x.min(axes)).ravel()  # a deviation would be of rounding
    if same.any():
        column = int(np.flatnonzero(same)[0])
        value = np.moveaxis(x, 1, 0)[column].ravel()[0]
        raise ValueError(
            f"dataset {name}: {column_named(columns, column)} holds {value:.15g} throughout the "
            "training part; leave it out with columns: [...]"
        )
    largest = np.abs(x).max(axes, keepdims=True)  # so that no square is too large, or too small
    mean = (x / largest).mean(axes, keepdims=True)
    deviation = (x / largest).std(axes, keepdims=True)

    def scaled(part: Part) -> Part:
        return Part(as_float32((part.x / largest - mean) / deviation), part.labels)

    train, validation, test = scaled(data.train), scaled(data.validation), scaled(data.test)
    before = np.concatenate([x, data.validation.x, data.test.x])
    after = np.concatenate([train.x, validation.x, test.x])
    return Data(train, validation, test, (*merged(before, after, columns), *data.notes))


def with_scale_noted(data: Data) -> Data:
    """With a note if the examples are far larger than the noise that is mixed into them."""
    x = data.validation.x[:LOOKED_AT]
    loudness = 0.0 if x.dtype == np.uint8 else float(np.linalg.norm(x)) / math.sqrt(x.size)
    if loudness <= LOUD:
        return data
    note = (
        f"examples have a root mean square of {loudness:.3g} where noise has 1, which then hides "
        "little; scale them to about [-1, 1]"
    )
    return data._replace(notes=(*data.notes, note))
