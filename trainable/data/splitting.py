"""Splitting: who trains, who validates and who tests, the same for every trial and seed."""

from __future__ import annotations

import hashlib

import numpy as np

from trainable.data.examples import check_kind, check_labels, counted
from trainable.data.parts import SPLIT_SEED, Data, FiledPart, Part
from trainable.data.sharded import Sharded, Survey, survey

HELD_OUT = 0.15  # of the examples for validation, and as many for the test
TEST_TO_TRAIN = HELD_OUT / (1 - 2 * HELD_OUT)
MOST_HELD_OUT = 8192  # of examples that lie in shards, since what is held out is kept in memory


def split(x: np.ndarray, labels: np.ndarray | None, seed: int = SPLIT_SEED) -> Data:
    """Cut into the three parts, shuffled; see `assigned`."""
    order, part, notes = assigned(distinct(x), round(HELD_OUT * len(x)), seed)
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
    check_kind(x, name)
    said: tuple[str, ...] = ()
    if isinstance(labels, Sharded):
        if len(labels) != len(x):
            raise ValueError(f"dataset {name}: {len(labels)} conditions for {counted(len(x))}")
        survey(labels, name)
    elif labels is not None:
        labels, said = check_labels(labels, len(x), name)
    seen = survey(x, name)
    x.limit, x.digest = seen.limit, seen.digest
    order, part, notes = assigned(kinds_of(seen), min(MOST_HELD_OUT, round(HELD_OUT * len(x))))
    train = np.flatnonzero(part == 0)
    kept = labels.only(train) if isinstance(labels, Sharded) else labels
    kept = kept[train] if isinstance(kept, np.ndarray) else kept
    whole = FiledPart(x, labels)
    validation, test = (whole.take(order[part[order] == number]) for number in (1, 2))
    return Data(FiledPart(x.only(train), kept), validation, test, (*said, *notes))


def kinds_of(seen: Survey) -> np.ndarray:
    """A number for each example, int64 [N]; equal examples have the same."""
    return np.unique(seen.hashes, return_inverse=True)[1]


def assigned(
    kinds: np.ndarray, held_out: int, seed: int = SPLIT_SEED
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """An order of the examples, the part of each (0 training, 1 validation, 2 test), and notes.

    Drawn with the seed of the split, which is fixed unless a confirmation has splits of its own.
    Equal examples stay together, or a held-out part would hold what was trained on: if one of
    them fell into the training part, all go there, else if one fell into validation, all go there.

    Raises:
        ValueError: so many examples are equal that a held-out part is left without any.
    """
    order = np.random.default_rng(seed).permutation(len(kinds))
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


def _moved(moved: int, total: int) -> str:
    return (
        f"{counted(moved)} of {total} moved between the parts of the data, since an equal one is "
        "trained on or validates"
    )
