"""Examples in three disjoint parts, in memory or in their files."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

import numpy as np

from trainable.data.sharded import Sharded

SPLIT_SEED = 0  # of the data, not of a trial: every trial and every seed sees the same three parts


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
