"""What images are compared by: features of a network that needs no download, or of the user's own.

An extractor maps examples, float [N, *shape] in [-1, 1] on any device, to features [N, D].
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate, relu

from trainable.base.shelf import load, told
from trainable.base.tensors import scaled, view
from trainable.data.parts import Part

SEED = 42  # of random weights, k-means and the classifier: the same yardstick for every trial
BATCH = 256
CLUSTERS = 32  # pseudo-classes of images without labels
FIT_EXAMPLES, FIT_STEPS, FIT_BATCH = 2048, 240, 64  # of the classifier: a second or a few
LARGEST = 32  # pixels of a side that the classifier sees

NO_LABELS = "trial.quality.features: labels: the dataset gives none"

Extractor = Callable[[Tensor], Tensor]


def build_extractor(name: str, train: Part, device: torch.device) -> Extractor:
    """The extractor that `name` means; classifiers are fitted to the training part.

    Raises:
        ValueError: it can't be loaded, or asks for images or labels that the data lacks.
    """
    kind, _, rest = name.partition(":")
    if name in ("random", "labels", "kmeans") and train.x.ndim != 4:
        raise ValueError(f"trial.quality.features: {name}: is for images, leave it null")
    if name == "random":
        return RandomConvolutions(train.x.shape[1]).to(device)
    if name == "labels":
        if train.labels is None:
            raise ValueError(NO_LABELS)
        return fit_classifier(train.x, train.labels, device)
    if name == "kmeans":
        return fit_classifier(train.x[:FIT_EXAMPLES], pseudo_labels(train.x), device)
    if kind == "onnx":
        return onnx_extractor(rest)
    if kind == "torchscript":
        return torchscript_extractor(rest, device)
    own: Extractor = load(name)
    return own


def extract(extractor: Extractor, x: Tensor, name: str) -> np.ndarray:
    """Features of x, float64 [N, D], batch by batch.

    Raises:
        ValueError: the extractor fails, or answers something else.
    """
    try:
        with torch.no_grad():
            parts = [torch.as_tensor(extractor(batch)).cpu() for batch in torch.split(x, BATCH)]
        features = torch.cat(parts).double().numpy()
    except Exception as error:
        raise ValueError(f"trial.quality.features: {name}: {told(error)}") from error
    if features.shape[0] != len(x) or not np.isfinite(features).all():
        raise ValueError(
            f"trial.quality.features: {name}: answers shape {features.shape} to {len(x)} "
            "examples, need finite numbers [N, D]"
        )
    return features.reshape(len(x), -1)


class RandomConvolutions(nn.Module):
    """Three convolutions with random weights (He et al. 2015), pooled to 2 x 2 after each.

    Such features rank generative models much as trained ones do (Lee et al. 2022).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        self.kernels = nn.ParameterList()
        for width, before in ((32, channels), (64, 32), (128, 64)):
            deviation = math.sqrt(2 / (9 * before))
            kernel = deviation * torch.randn(width, before, 3, 3, generator=generator)
            self.kernels.append(nn.Parameter(kernel, requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for level, kernel in enumerate(self.kernels):
            stride = 1 if level == 0 or min(x.shape[2:]) < 4 else 2
            x = relu(nn.functional.conv2d(x, kernel, stride=stride, padding=1))
            found.append(adaptive_avg_pool2d(x, 2).flatten(1))
        return torch.cat(found, dim=1)


class Classifier(nn.Module):
    """A small convolutional classifier; its features are the 64 numbers before the last layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.last = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        if max(x.shape[2:]) > LARGEST:
            x = adaptive_avg_pool2d(x, LARGEST)
        features: Tensor = self.body(x).mean((2, 3))
        return features


def fit_classifier(x: np.ndarray, labels: np.ndarray, device: torch.device) -> Classifier:
    """Train a classifier for a fixed number of steps, without touching any random stream."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        net = Classifier(x.shape[1], int(labels.max()) + 1).to(device)
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3, fused=True)
    targets = view(labels)
    with torch.enable_grad():
        for _ in range(FIT_STEPS):
            index = torch.randint(len(x), (FIT_BATCH,), generator=generator)
            batch = scaled(view(x)[index].to(device))
            loss = cross_entropy(net.last(net(batch)), targets[index].to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval().requires_grad_(False)


def pseudo_labels(x: np.ndarray) -> np.ndarray:
    """Clusters of the pixels of the first examples, in place of classes."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    pixels = adaptive_avg_pool2d(scaled(view(x[:FIT_EXAMPLES])), 16).flatten(1)
    clusters = max(2, min(CLUSTERS, len(pixels) // 8))
    with threadpool_limits(1):  # its threads and torch's get in each other's way
        found = KMeans(clusters, n_init=1, random_state=SEED).fit_predict(pixels.numpy())
    return np.asarray(found, np.int64)


def onnx_extractor(path: str) -> Extractor:
    """The first output of an ONNX model, given images in [-1, 1] at the size it declares.

    Raises:
        ValueError: onnxruntime is not installed, or the file is no model.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ValueError(
            "trial.quality.features: onnx: needs the package onnxruntime; "
            "pip install 'diffsweep[onnx]'"
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"trial.quality.features: onnx:{path}: {told(error)}") from error
    given = session.get_inputs()[0]

    def extractor(x: Tensor) -> Tensor:
        images = fitted(x.cpu(), given.shape).numpy()
        return torch.tensor(session.run(None, {given.name: images})[0]).flatten(1)

    return extractor


def torchscript_extractor(path: str, device: torch.device) -> Extractor:
    """A saved TorchScript module, given images in [-1, 1].

    Raises:
        ValueError: the file is no such module.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # deprecated, and still in use
            module: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"trial.quality.features: torchscript:{path}: {told(error)}") from error
    return lambda x: module.eval()(x).flatten(1)


def fitted(x: Tensor, shape: list[Any]) -> Tensor:
    """Images in the size and with the channels that a network declares, where it declares them."""
    channels, *size = shape[1:4]
    if isinstance(channels, int) and channels == 3 and x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    if all(isinstance(side, int) for side in size) and tuple(size) != tuple(x.shape[2:]):
        x = interpolate(x, size=size, mode="bilinear", antialias=True)
    return x.contiguous()
