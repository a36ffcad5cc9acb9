"""An exported model, ready to sample: its config and its weights, without the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ruamel.yaml import YAML
from safetensors import safe_open
from torch import Tensor, nn

from trainable.base.device import pick_device
from trainable.base.shelf import use_code
from trainable.config import TrialConfig
from trainable.diffusion.process import build_process
from trainable.diffusion.sampling import draw
from trainable.models.build import build_model
from trainable.models.shelf import ModelConfig

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"


class Examples(NamedTuple):
    """What a model needs to know of the data that it was trained on."""

    shape: tuple[int, ...]  # of one example
    classes: int  # 0 without labels
    features: int  # of a condition per example; 0 without
    limit: float  # that no number of an example exceeds

    @classmethod
    def read(cls, path: Path) -> Examples:
        """From what an export writes beside the weights."""
        with safe_open(path, "pt") as file:
            kind = {key: json.loads(value) for key, value in file.metadata().items()}
        limit = kind.get("limit", 1.0)  # of exports that don't say: what images have
        return cls(tuple(kind["shape"]), kind["classes"], kind["features"], limit)


class Exported:
    """The model in a folder that `diffsweep export` wrote.

    Args:
        network: taken in place of the one that config and weights make, such as what
            `mlflow.pytorch.load_model` gives; called network(x, t), or network(x, t, labels).
    """

    def __init__(
        self, folder: Path | str, device: str = "auto", network: nn.Module | None = None
    ) -> None:
        folder = Path(folder)
        given = YAML(typ="safe", pure=True).load((folder / CONFIG).read_text())
        self.config = TrialConfig.model_validate(given)
        self.device = pick_device(device)
        self.examples = Examples.read(folder / WEIGHTS)
        self.process = build_process(self.config.diffusion, self.device)
        self.model = self._load(folder / WEIGHTS) if network is None else network

    def _load(self, path: Path) -> nn.Module:
        use_code(folder for folder in self.config.code if Path(folder).is_dir())
        scale = self.process.time_scale
        return load_network(self.config.model, self.examples, scale, path, self.device)

    @torch.no_grad()
    def sample(self, count: int, steps: int = 40, seed: int = 0, labels: Any = None) -> Tensor:
        """`count` samples, [count, *shape], from noise of this seed.

        `labels` are classes [count], or conditions [count, ...]. Without them, classes take
        turns; conditions have to be given, since the data that has them is not here.

        Raises:
            ValueError: the labels are not of this model, or its process is the user's own.
        """
        if self.config.loss is not None:
            raise ValueError(f"trained by {self.config.loss}: its own code has to sample it")
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, *self.examples.shape, generator=generator).to(self.device)
        told = self._told(count, labels)
        return draw(self.process, self.model, noise, told, steps, self.examples.limit)

    def _told(self, count: int, labels: Any) -> Tensor | None:
        """Labels as the network takes them; None if it takes none."""
        classes, features = self.examples.classes, self.examples.features
        if labels is None and not features:
            return torch.arange(count) % classes if classes else None
        if not (classes or features):
            raise ValueError("labels: this model was trained without")
        given = torch.as_tensor([] if labels is None else labels)
        if features:
            if len(given) != count or given.numel() != count * features:
                raise ValueError(
                    f"labels: this model needs conditions, {features} numbers for each of "
                    f"{count} samples; got shape {tuple(given.shape)}"
                )
            return given.float().view(count, 1) if given.ndim == 1 else given.float()
        known = given.shape == (count,) and ((given >= 0) & (given < classes)).all()
        if given.is_floating_point() or not known:
            raise ValueError(f"labels: want {count} classes from 0 to {classes - 1}")
        return given.long()


def load_network(
    model: ModelConfig, examples: Examples, time_scale: float, path: Path, device: torch.device
) -> nn.Module:
    """A new network with the weights of an export in it."""
    with safe_open(path, "pt", device=str(device)) as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    network = build_model(model, examples, time_scale)
    network.load_state_dict(weights)
    return network.to(device).eval()
