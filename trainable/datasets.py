"""Loading and splitting: examples become arrays in three disjoint parts."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple, Protocol

import numpy as np

from trainable.data import DatasetConfig
from trainable.sharded import Shard, Sharded, Survey, survey
from trainable.shelf import Own, told

SPLIT_SEED = 0  # of the data, not of a trial: every trial and every seed sees the same three parts
HELD_OUT = 0.15  # of the examples for validation, and as many for the test
MIN_EXAMPLES = 8
LOUD = 2.0  # root mean square of examples beside which noise, of 1, hides too little ...
LOOKED_AT = 256  # ... in so many of them
MOST_HELD_OUT = 8192  # of examples that lie in shards, since what is held out is kept in memory


class Kind(Protocol):
    """What a model has to know of its data."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> int: ...
    @property
    def features(self) -> int: ...


class Part(NamedTuple):
    """Examples x [N, *shape], float32 or the uint8 of images, and their labels, int64 [N].

    In place of labels there may be conditions, float32 [N, ...].
    """

    x: np.ndarray
    labels: np.ndarray | None

    def take(self, index: slice | np.ndarray) -> Part:
        """Some of its examples."""
        return Part(self.x[index], None if self.labels is None else self.labels[index])

    def some(self, count: int) -> Part:
        """At most `count` examples drawn from all; the order of a part is drawn already."""
        return self.take(slice(count))


class FiledPart(NamedTuple):
    """The same, larger than memory: examples, and conditions if there are, stay in their files."""

    x: Sharded
    labels: np.ndarray | Sharded | None

    def take(self, index: slice | np.ndarray) -> Part:
        """Some of its examples, in memory."""
        return Part(self.x[index], None if self.labels is None else self.labels[index])

    def some(self, count: int) -> Part:
        """At most `count` examples drawn from all, in memory."""
        return self.take(self.x.sample(count, SPLIT_SEED))


class Data(NamedTuple):
    """Training, validation (the search decides on it) and test (only reports see it)."""

    train: Part | FiledPart
    validation: Part
    test: Part
    notes: tuple[str, ...] = ()  # what people should know of the data, a line each

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.x.shape[1:]

    @property
    def classes(self) -> int:
        """How many classes the labels name; 0 without labels, or if they are conditions."""
        parts = [part.labels for part in self.parts if isinstance(part.labels, np.ndarray)]
        if not parts or parts[0].dtype.kind == "f":
            return 0
        return int(max(labels.max() for labels in parts)) + 1

    @property
    def features(self) -> int:
        """How many numbers condition an example (an embedding, a latent); 0 for none."""
        given = self.validation.labels
        return 0 if given is None or given.dtype.kind != "f" else int(given[0].size)

    @property
    def parts(self) -> tuple[Part | FiledPart, Part, Part]:
        return self.train, self.validation, self.test

    @property
    def nbytes(self) -> int:
        """Bytes of all examples that are in memory."""
        return sum(part.x.nbytes for part in self.parts if isinstance(part.x, np.ndarray))

    @property
    def fingerprint(self) -> str:
        """Another one for other examples."""
        digest = hashlib.sha256()
        for part in self.parts:
            x = part.x
            given = x.digest if isinstance(x, Sharded) else np.ascontiguousarray(x).data
            digest.update(given)
        return digest.hexdigest()[:16]

    @property
    def limit(self) -> float:
        """The largest absolute value of the training examples: 1 for images that use it all."""
        x = self.train.x
        if isinstance(x, Sharded):
            return x.limit
        return 1.0 if x.dtype == np.uint8 else float(max(x.max(), -x.min()))


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


def check_examples(x: np.ndarray, name: str) -> np.ndarray:
    """Examples in channels-first order: uint8 images [N, H, W, C] turned, floats as float32."""
    if len(x) < MIN_EXAMPLES:
        raise ValueError(f"dataset {name}: {_count(len(x))}, need at least {MIN_EXAMPLES}")
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
            f"dataset {name}: {_count(len(bad))} of {len(x)} with NaN or infinity, "
            f"the first is number {bad[0]}"
        )
    return x


def check_labels(labels: np.ndarray, examples: int, name: str) -> np.ndarray:
    """Labels as int64, one for each example; or conditions as float32, a tensor for each."""
    if labels.dtype.kind == "f" and len(labels) == examples:
        bad = np.flatnonzero(~np.isfinite(labels).reshape(examples, -1).all(1))
        if len(bad):
            raise ValueError(
                f"dataset {name}: the conditions of {_count(len(bad))} of {examples} have NaN or "
                f"infinity, the first is number {bad[0]}"
            )
        return labels.astype(np.float32).reshape(examples, *(labels.shape[1:] or (1,)))
    if labels.shape != (examples,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"dataset {name}: got labels of {labels.dtype} with shape {labels.shape}, need "
            f"whole numbers from 0 with shape ({examples},), or floats with {examples} rows"
        )
    return labels.astype(np.int64)


def split(x: np.ndarray, labels: np.ndarray | None) -> Data:
    """Cut into the three parts, shuffled; see `assigned`."""
    order, part, notes = assigned(distinct(x), round(HELD_OUT * len(x)))
    cuts = [order[part[order] == number] for number in range(3)]
    train, validation, test = (
        Part(x[cut], None if labels is None else labels[cut]) for cut in cuts
    )
    return Data(train, validation, test, notes)


def split_shards(x: Sharded, labels: np.ndarray | Sharded | None, name: str) -> Data:
    """The same where the training part stays in its files, and no more is held out than fits.

    Raises:
        ValueError: the examples can't be trained on; the message says which and why.
    """
    if len(x) < MIN_EXAMPLES or x.ndim < 2 or not (x.images or x.dtype.kind == "f"):
        raise ValueError(
            f"dataset {name}: got an array of {x.dtype} with shape {x.shape}, need at least "
            f"{MIN_EXAMPLES} examples, floats [N, *shape] or uint8 images [N, H, W, C]"
        )
    if isinstance(labels, np.memmap) and labels.dtype.kind == "f":
        labels = Sharded((Shard.of(labels),))
    if isinstance(labels, Sharded):
        survey(labels, name)
    elif labels is not None:
        labels = check_labels(np.asarray(labels), len(x), name)
    seen = survey(x, name)
    x.limit, x.digest = seen.limit, seen.digest
    order, part, notes = assigned(kinds_of(seen), min(MOST_HELD_OUT, round(HELD_OUT * len(x))))
    train = np.flatnonzero(part == 0)
    kept = labels.only(train) if isinstance(labels, Sharded) else labels
    kept = kept[train] if isinstance(kept, np.ndarray) else kept
    whole = FiledPart(x, labels)
    validation, test = (whole.take(order[part[order] == number]) for number in (1, 2))
    return Data(FiledPart(x.only(train), kept), validation, test, notes)


def kinds_of(seen: Survey) -> np.ndarray:
    """A number for each example, int64 [N]; equal examples have the same."""
    return np.unique(seen.hashes, return_inverse=True)[1]


def assigned(kinds: np.ndarray, held_out: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """An order of the examples, the part of each (0 training, 1 validation, 2 test), and notes.

    Drawn with the fixed seed of the split. Equal examples stay together, or a held-out part would
    hold what was trained on: if one of them fell into the training part, all go there, else if
    one fell into validation, all go there.

    Raises:
        ValueError: so many examples are equal that a held-out part is left without any.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(kinds))
    held_out = max(2, held_out)
    drawn = np.zeros(len(kinds), np.int8)
    drawn[order[-2 * held_out :]] = 1
    drawn[order[-held_out:]] = 2
    first = np.full(kinds.max() + 1, 2, np.int8)
    np.minimum.at(first, kinds, drawn)
    part = first[kinds]
    if len(np.unique(part)) < 3:
        raise ValueError(f"dataset: only {kinds.max() + 1} of {len(kinds)} examples are distinct")
    moved = int((part != drawn).sum())
    return order, part, (_moved(moved, len(kinds)),) if moved else ()


def distinct(x: np.ndarray) -> np.ndarray:
    """A number for each example, int64 [N]; exactly equal examples have the same."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x)
    return np.array([seen.setdefault(digest, len(seen)) for digest in digests])


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


def _moved(moved: int, total: int) -> str:
    return (
        f"{_count(moved)} of {total} moved between the parts of the data, since an equal one is "
        "trained on or validates"
    )


def _count(n: int) -> str:
    return f"{n} example" + "s" * (n != 1)
