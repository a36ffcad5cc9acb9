"""An exported model, ready to sample: its config and its weights, without the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from ruamel.yaml import YAML
from safetensors import safe_open
from torch import Tensor

from trainable.build import build_model, pick_device
from trainable.config import TrialConfig
from trainable.diffusion import Network, build_process

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"


class Examples(NamedTuple):
    """What a model needs to know of the data that it was trained on."""

    shape: tuple[int, ...]  # of one example
    classes: int  # 0 without labels
    features: int  # of a condition per example; 0 without


class Exported:
    """The model in a folder that `diffsweep export` wrote."""

    def __init__(self, folder: Path | str, device: str = "auto") -> None:
        folder = Path(folder)
        given = YAML(typ="safe", pure=True).load((folder / CONFIG).read_text())
        self.config = TrialConfig.model_validate(given)
        self.device = pick_device(device)
        with safe_open(folder / WEIGHTS, "pt", device=str(self.device)) as file:
            metadata = file.metadata()
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.examples = Examples(
            tuple(json.loads(metadata["shape"])),
            int(metadata["classes"]),
            int(metadata["features"]),
        )
        self.process = build_process(self.config.diffusion, self.device)
        model = build_model(self.config, self.examples, self.process.time_scale)
        model.load_state_dict(weights)
        self.model = model.to(self.device).eval()

    @torch.no_grad()
    def sample(self, count: int, steps: int = 40, seed: int = 0) -> Tensor:
        """`count` samples, [count, *shape], from noise of this seed; classes take turns."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, *self.examples.shape, generator=generator).to(self.device)
        network: Network = self.model
        if self.examples.classes:
            labels = torch.arange(count, device=self.device) % self.examples.classes
            network = lambda x, t: self.model(x, t, labels)  # noqa: E731
        return self.process.sample(network, noise, steps).float().cpu()
