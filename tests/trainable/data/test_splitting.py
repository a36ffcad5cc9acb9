"""Data: what is taken, how it is scaled, and that its three parts never mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainable.data.examples import check_labels
from trainable.data.loading import load_data, split_again
from trainable.data.parts import Data
from trainable.data.shelf import Digits, OwnData, Points
from trainable.data.splitting import split


def numbered(count: int) -> np.ndarray:
    """Examples that carry their own number."""
    return np.arange(count, dtype=np.float32)[:, None]


def numbers(data: Data) -> list[set[int]]:
    return [set(part.x[:, 0].astype(int).tolist()) for part in data[:3]]


@pytest.mark.parametrize("count", [8, 9, 20, 101, 1797])
def test_each_example_is_in_exactly_one_part(count: int) -> None:
    data = split(numbered(count), None)
    parts = numbers(data)
    assert set.union(*parts) == set(range(count))
    assert sum(len(part.x) for part in data[:3]) == count
    assert all(len(part.x) >= 2 for part in data[:3])


def test_the_split_is_the_same_every_time_and_shuffled() -> None:
    first, second = (split(numbered(200), None) for _ in range(2))
    for one, other in zip(first[:3], second[:3], strict=True):
        assert np.array_equal(one.x, other.x)
    assert numbers(first)[0] != set(range(140))
    assert [len(part.x) for part in first[:3]] == [140, 30, 30]


def test_another_split_has_the_same_examples_in_other_parts_with_their_labels() -> None:
    config = Digits(labels=True)
    first = load_data(config)
    again = [split_again(first, config, seed) for seed in (1, 1, 2)]
    everyone = sorted(x.tobytes() for part in first.parts for x in part.some(10**6).x)
    tests = []
    for data in again:
        assert sorted(x.tobytes() for part in data.parts for x in part.some(10**6).x) == everyone
        tests.append({x.tobytes() for x in data.test.x})
    assert tests[0] == tests[1] and 0.05 < len(tests[0] & tests[2]) / len(tests[0]) < 0.3
    labelled = {
        x.tobytes(): label
        for part in first.parts
        for x, label in zip(*part.some(10**6), strict=True)
    }
    assert all(labelled[x.tobytes()] == label for x, label in zip(*again[2].test, strict=True))


def test_another_split_is_standardised_by_its_own_training_part() -> None:
    config = Points(examples=200)
    data = split_again(load_data(config), config, 3)
    assert config.standardise
    train = data.train.some(10**6).x
    assert np.allclose(train.mean(0), 0, atol=1e-5) and np.allclose(train.std(0), 1, atol=1e-4)


def test_labels_stay_with_their_examples() -> None:
    data = split(numbered(50), np.arange(50) % 7)
    for part in data[:3]:
        assert part.labels is not None
        assert np.array_equal(part.labels, part.x[:, 0].astype(int) % 7)
    assert data.classes == 7
    assert split(numbered(50), None).classes == 0


def test_digits_are_images_between_minus_one_and_one() -> None:
    data = load_data(Digits())
    assert data.shape == (1, 8, 8)
    assert sum(len(part.x) for part in data[:3]) == 1797
    assert all(part.labels is None for part in data[:3])
    values = np.concatenate([part.x for part in data[:3]])
    assert (values.min(), values.max(), values.dtype) == (-1.0, 1.0, np.float32)


def test_digits_carry_their_class_when_asked_for() -> None:
    data = load_data(Digits(labels=True))
    assert data.classes == 10
    bunch = load_digits()
    known = {
        image.tobytes(): target for image, target in zip(bunch.images, bunch.target, strict=True)
    }
    part = data.validation
    assert part.labels is not None
    for image, label in zip(part.x, part.labels, strict=True):
        assert known[((image[0] + 1) * 8).astype(np.float64).tobytes()] == label


def load_own(x: Any, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setattr("trainable.base.shelf.load", lambda target: lambda: x)
    return load_data(OwnData(type="mine:load"))


def test_floats_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(-3, 3, 40).reshape(10, 4)
    parts = load_own(x, monkeypatch).parts
    rows = np.concatenate([part.x for part in parts])
    assert np.array_equal(rows[rows[:, 0].argsort()], x.astype(np.float32))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 2)), "mine:load: 1 example, need at least"),
        (np.zeros((0, 2)), "mine:load: 0 examples, need at least"),
        (np.zeros(20), "got an array of float64 with shape"),
        (np.zeros((20, 2), np.int64), "got an array of int64"),
        (np.full((20, 2), np.inf), "20 examples of 20 with NaN or infinity"),
    ],
)
def test_examples_that_can_not_be_trained_on_are_refused(
    x: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=message):
        load_own(x, monkeypatch)


@pytest.mark.parametrize(
    "labels", [np.zeros(3), np.zeros(4, complex), np.full(4, -1), np.zeros((4, 1), int)]
)
def test_labels_that_are_no_classes_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match="mine: got labels of"):
        check_labels(labels, 4, "mine")
