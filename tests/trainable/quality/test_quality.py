"""Quality of samples: the formulas, the order they put things in, and what they leave alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from support.specs import make_config

from trainable.base.tensors import scaled, view
from trainable.config import TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data, Part
from trainable.metrics import QUALITY_METRICS
from trainable.quality.distances import BANDWIDTHS, coverage, frechet_distance, mmd
from trainable.quality.features import build_extractor, extract, fitted
from trainable.quality.images import GRID_SIZE, write_points
from trainable.quality.measure import Yardstick, measure, try_features, yardstick_for
from trainable.solo import train
from trainable.train import TrainState, train_until

CPU = torch.device("cpu")
MLP = {"type": "mlp", "width": 16, "depth": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a trial has it; more of them only wait for each other on images this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**keys: Any) -> TrialSettings:
    return TrialSettings.model_validate(keys)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(settings(dataset={"type": "digits", "labels": True}).dataset)


def normal(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def test_mmd_is_the_estimate_of_the_paper() -> None:
    x, y = normal(7), normal(6, seed=1) + 0.5
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[i + 1 :]]
    total = 0.0
    for factor in BANDWIDTHS:

        def k(a: np.ndarray, b: np.ndarray, width: float = factor * np.median(pairs)) -> float:
            return float(np.exp(-((a - b) ** 2).sum() / (2 * width**2)))

        xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
        yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
        total += np.mean(xx) + np.mean(yy) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert mmd(x, y) == pytest.approx(total / 3, rel=1e-9)


def test_mmd_of_equal_distributions_is_zero_on_average() -> None:
    draws = [mmd(normal(50, seed=i), normal(50, seed=1000 + i)) for i in range(60)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error and min(draws) < 0 < max(draws)
    assert mmd(normal(50), normal(50, seed=1) + 1) > 5 * max(draws)


def test_frechet_distance_of_known_gaussians() -> None:
    x, y = normal(200_000, 2), normal(200_000, 2, seed=1) * [2, 0.5] + [1, -2]
    expected = 1 + 4 + (2 - 1) ** 2 + (1 - 0.5) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected, rel=0.02)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x[:, :1], y[:, :1]) == pytest.approx(1 + 1, rel=0.02)


def test_frechet_distance_of_more_features_than_examples() -> None:
    """As the definition has it, with the root of a matrix of all features."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 50)), 1 + 2 * random.normal(size=(30, 50))
    c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-3)


def test_latents_are_compared_as_images_are() -> None:
    random = np.random.default_rng(0)
    parts = [
        Part(random.normal(size=(k, 4, 8, 8)).astype(np.float32), None) for k in (200, 32, 32)
    ]
    found = Yardstick(Data(*parts), None, 32, 4, torch.device("cpu"))
    assert [name for name, _ in found.extractors] == ["random", "kmeans"]


def test_coverage_is_the_share_of_modes_that_samples_reach() -> None:
    two = np.concatenate([normal(200), normal(200, seed=1) + 100])
    one = normal(400, seed=2)
    assert coverage(two, one) == pytest.approx(0.5, abs=0.05)
    assert coverage(two, np.concatenate([normal(200, seed=3), normal(200, seed=4) + 100])) > 0.9
    assert coverage(two, one + 1000) == 0


@pytest.mark.parametrize("features", [None, "random", "kmeans", "labels"])
def test_worse_images_are_farther_from_real_ones(features: str | None, digits: Data) -> None:
    yardstick = Yardstick(digits, features, 256, 10, CPU)
    order = np.random.default_rng(0).permutation(len(digits.train.x))[:256]
    real = scaled(view(digits.train.x[order]))
    noisy = real + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    few = torch.tensor(digits.train.x[np.flatnonzero(digits.train.labels < 5)[:256]])
    values = yardstick.values(real)
    assert values["quality_mmd_real"] < values["quality_mmd_noise"] / 20
    missing, spoilt = yardstick.values(few), yardstick.values(noisy)
    assert values["quality_mmd"] + 0.005 < missing["quality_mmd"] < values["quality_mmd_noise"]
    assert missing["quality_fd"] > 1.5 * values["quality_fd"]
    assert missing["quality_coverage"] < 0.8 * values["quality_coverage"]
    if features in (None, "random"):  # a classifier overlooks noise
        assert values["quality_mmd"] + 0.005 < spoilt["quality_mmd"] < values["quality_mmd_noise"]


def test_training_improves_quality(digits: Data) -> None:
    config = make_config(
        {"type": "adamw", "lr": 3e-3},
        dataset={"type": "digits", "labels": True},
        model={"type": "unet", "channels": 16},
        batch_size=32,
        steps=160,
        quality={"samples": 128, "steps": 10},
    )
    state = TrainState(config, digits)
    found = []
    for step in (0, 32, 160):
        train_until(state, step * 32)
        found.append(measure(state, "raw")[0])
    assert set(found[0]) == set(QUALITY_METRICS)
    mmds = [values["quality_mmd"] for values in found]
    assert mmds[0] > 2 * mmds[1] > 4 * mmds[2] > 0


@pytest.mark.parametrize(
    ("dataset", "model"),
    [
        ({"type": "points", "examples": 400}, MLP),
        ({"type": "table", "name": "breast_cancer"}, MLP),
        ({"type": "trajectories", "path": "series.npz", "window": 8}, MLP),
        ({"type": "digits"}, {"type": "unet", "channels": 8}),
    ],
)
def test_quality_changes_no_number_of_the_training(
    dataset: dict[str, Any],
    model: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("series.npz", x=np.random.default_rng(0).standard_normal((60, 2, 16)).cumsum(2))
    quality = {"samples": 48, "steps": 3}
    model = model | {"dropout": 0.1}
    plain = train(make_config(dataset=dataset, model=model, quality=None), tmp_path / "plain")
    measured = train(make_config(dataset=dataset, model=model, quality=quality), tmp_path / "meas")
    assert set(QUALITY_METRICS) <= measured.keys()
    assert all(np.isfinite(measured[name]) for name in QUALITY_METRICS)
    ours = {k: v for k, v in measured.items() if not k.startswith("quality")}
    timing = ("steps_per_second", "validation_seconds", "peak_memory_bytes")
    assert {k: v for k, v in ours.items() if k not in timing} == {
        k: v for k, v in plain.items() if k not in timing
    }
    shown = {"digits", "points"}  # with samples measured or without
    drawn = [(tmp_path / name / "samples.png").exists() for name in ("plain", "meas")]
    assert drawn == [dataset["type"] in shown] * 2
    saved = [torch.load(tmp_path / name / "checkpoint.pt") for name in ("plain", "meas")]
    assert torch.equal(saved[0]["rng"]["torch"], saved[1]["rng"]["torch"])


def test_the_yardstick_is_made_once_for_trials_of_one_dataset(digits: Data) -> None:
    quality = {"samples": 64, "steps": 2}
    data = {"type": "digits", "labels": True}
    make = [make_config(dataset=data, quality=quality, seed=seed) for seed in (0, 1)]
    first, second = (yardstick_for(TrainState(config, digits)) for config in make)
    assert first is second
    other = make_config(dataset=data, quality=quality | {"samples": 32})
    assert yardstick_for(TrainState(other, digits)) is not first


def test_points_are_drawn_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    points = torch.tensor([[0.0, 9.0, 0.0], [2.0, 9.0, 1.0]])  # the second is not shown of three
    write_points(points, 4.0, path)
    with Image.open(path) as picture:
        dark = {
            (x, y)
            for x in range(0, GRID_SIZE, 64)
            for y in range(0, GRID_SIZE, 64)
            if picture.getpixel((x, y)) == 0
        }
    middle = GRID_SIZE // 2
    assert dark == {(middle, middle), (middle + 128, middle - 64)}  # right, and up


def test_what_is_measured_follows_the_budget() -> None:
    main = settings(steps=400, batch_size=64).affordable_quality()
    assert main is not None and (main.samples, main.steps) == (204, 15)
    assert main.samples * main.steps <= 0.1 * 3 * 400 * 64
    long = settings(steps=10_000).affordable_quality()
    assert long is not None and (long.samples, long.steps) == (500, 40)
    edm = settings(steps=400, diffusion={"prediction": "edm"}).affordable_quality()
    assert edm is not None and 2 * edm.samples * edm.steps <= 0.1 * 3 * 400 * 64
    assert settings(steps=2).affordable_quality() is None
    assert settings(quality=None).affordable_quality() is None
    some = settings(steps=2000, quality={"samples": 32}).resolve(
        optimizer={"type": "adam", "lr": 1e-3}
    )
    assert some.quality is not None and (some.quality.samples, some.quality.steps) == (32, 40)
    other = settings(steps=400).resolve(optimizer={"type": "adam", "lr": 1e-3}, batch_size=16)
    assert other.quality == main  # the same for every trial of a search


OWN = """
import torch

def mean(x):
    return x.mean((2, 3))

def broken(x):
    return x[:1].flatten(1)
"""


def test_features_of_ones_own(
    tmp_path: Path, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ownfeatures", raising=False)
    (tmp_path / "ownfeatures.py").write_text(OWN)
    x = scaled(view(digits.train.x[:5]))
    extractor = build_extractor("ownfeatures:mean", digits.train, CPU)
    assert extract(extractor, x, "own").shape == (5, 1)
    try_features(settings(quality={"features": "ownfeatures:mean"}), digits)
    for name, fault in (
        ("ownfeatures:broken", r"answers shape \(1, 64\) to 2 examples"),
        ("ownfeatures:absent", "can't import 'ownfeatures:absent'"),
        ("onnx:nowhere.onnx", "onnx:nowhere.onnx: |needs the package onnxruntime"),
        ("torchscript:nowhere.pt", "torchscript:nowhere.pt: "),
    ):
        with pytest.raises(ValueError, match=fault):
            try_features(settings(quality={"features": name}), digits)


def test_labels_and_images_are_asked_for_only_where_they_are(digits: Data) -> None:
    points = load_data(settings(dataset={"type": "points", "examples": 100}).dataset)
    with pytest.raises(ValueError, match="the dataset gives none"):
        try_features(settings(quality={"features": "labels"}), points)
    for name in ("random", "kmeans"):
        with pytest.raises(ValueError, match=f"{name}: is for images"):
            try_features(settings(quality={"features": name}), points)
        try_features(settings(quality={"features": name}), digits)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_features_of_a_torchscript_file(tmp_path: Path, digits: Data) -> None:
    module = torch.jit.trace(torch.nn.AvgPool2d(4), torch.zeros(1, 1, 8, 8))
    module.save(str(tmp_path / "pool.pt"))
    extractor = build_extractor(f"torchscript:{tmp_path}/pool.pt", digits.train, CPU)
    x = scaled(view(digits.train.x[:5]))
    found = extract(extractor, x, "torchscript")
    assert np.allclose(found, torch.nn.functional.avg_pool2d(x, 4).flatten(1))


def field(number: int, content: bytes | str | int) -> bytes:
    """A field of a protobuf message, for an ONNX file without a library that writes them."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    content = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(content)]) + content


def pooling_onnx(channels: int, side: int) -> bytes:
    """A model of one node: GlobalAveragePool of [n, channels, side, side]."""

    def tensor(name: str, *sides: int) -> bytes:
        dims = [field(1, field(2, "n")), *(field(1, field(1, n)) for n in sides)]
        shape = field(2, b"".join(dims))
        return field(1, name) + field(2, field(1, field(1, 1) + shape))

    node = field(1, "x") + field(2, "y") + field(4, "GlobalAveragePool")
    graph = field(1, node) + field(2, "g") + field(11, tensor("x", channels, side, side))
    graph += field(12, tensor("y", channels, 1, 1))
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)


def test_features_of_an_onnx_file_at_the_size_it_declares(tmp_path: Path, digits: Data) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "pool.onnx").write_bytes(pooling_onnx(channels=3, side=16))
    extractor = build_extractor(f"onnx:{tmp_path}/pool.onnx", digits.train, CPU)
    x = scaled(view(digits.train.x[:5]))
    found = extract(extractor, x, "onnx")
    expected = fitted(x, ["n", 3, 16, 16]).mean((2, 3))
    assert found.shape == (5, 3) and np.allclose(found, expected, atol=1e-6)
    assert np.allclose(found[:, 0], x.mean((1, 2, 3)), atol=0.05)


def test_samples_that_are_not_finite_do_not_cost_the_training(digits: Data) -> None:
    config = make_config(
        dataset={"type": "digits", "labels": True}, quality={"samples": 32, "steps": 2}
    )
    state = TrainState(config, digits)
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))
    assert measure(state, "raw")[0] == {"quality_error": "quality: some samples are not finite"}
