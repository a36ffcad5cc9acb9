"""Loading: from an entry of the shelf to data that a trial can train on."""

from __future__ import annotations

import math

import numpy as np

from trainable.base.shelf import Own, told
from trainable.data.examples import check_examples, check_labels
from trainable.data.parts import Data, Part
from trainable.data.sharded import Shard, Sharded
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
        loaded = loader(**config.knobs())
    except Exception as error:
        if isinstance(config, Own):
            raise ValueError(f"dataset {config.type}: {told(error)}") from error
        raise
    x, labels = loaded if isinstance(loaded, tuple) else (loaded, None)
    if isinstance(x, np.memmap):  # of the user's own code
        x = Sharded((Shard.of(x),))
    if isinstance(x, Sharded):
        return with_scale_noted(split_shards(x, labels, config.type))
    x = check_examples(np.asarray(x), config.type)
    if labels is not None:
        labels = check_labels(np.asarray(labels), len(x), config.type)
    data = split(x, labels)
    return standardised(data, config.type) if config.standardise else with_scale_noted(data)


def standardised(data: Data, name: str) -> Data:
    """Each column or channel less its mean over the training part, in its deviations there.

    Raises:
        ValueError: one of them does not vary in the training part.
    """
    assert isinstance(data.train, Part)
    x = data.train.x
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, dtype=np.float64, keepdims=True)
    deviation = x.std(axes, dtype=np.float64, keepdims=True)
    if (deviation == 0).any():
        column = int(np.flatnonzero(deviation.ravel() == 0)[0])
        raise ValueError(
            f"dataset {name}: column or channel {column} (counted from 0) holds "
            f"{mean.ravel()[column]:g} throughout; leave it out with columns: [...]"
        )
    train, validation, test = (
        part._replace(x=((part.x - mean) / deviation).astype(np.float32))
        for part in (data.train, data.validation, data.test)
    )
    return Data(train, validation, test, data.notes)


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
