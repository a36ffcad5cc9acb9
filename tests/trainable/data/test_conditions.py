"""Data with a tensor for each example: text embeddings, latents, anything that conditions it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.books import export_of
from support.specs import SMALL, make_config, make_spec

from search.execution.ready import completed_spec
from trainable.actor import checkpoint
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.exported import Exported
from trainable.preflight import try_model
from trainable.report import network, report, sample
from trainable.train import TrainState, train_until

DATASET = {"type": "conditioned:images"}


def images(broken: bool = False, flat: bool = False) -> Any:
    """Images of one grey level each, which the condition tells."""
    generator = np.random.default_rng(0)
    level = generator.uniform(-1, 1, 400).astype(np.float32)
    x = np.broadcast_to(level[:, None, None, None], (400, 1, 8, 8)).copy()
    condition = np.stack([level, level**2, -level, np.ones_like(level)], 1).reshape(-1, 2, 2)
    if broken:
        condition[7] = np.nan
    return x, level if flat else condition


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModuleType("conditioned")
    own.images = images  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "conditioned", own)


def load(**knobs: bool) -> Data:
    return load_data(make_config(dataset=DATASET | knobs).dataset)


def test_conditions_stay_with_their_examples_and_are_no_classes() -> None:
    data = load()
    assert data.features == 4 and data.classes == 0
    for part in data.parts:
        assert part.labels is not None and part.labels.shape == (len(part.x), 2, 2)
        assert np.array_equal(part.labels[:, 0, 0], part.x[:, 0, 0, 0])
    assert load(flat=True).features == 1


def test_conditions_that_are_not_finite_are_told() -> None:
    with pytest.raises(ValueError, match=r"conditions of 1 example of 400 .* first is number 7"):
        load(broken=True)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "unet", "channels": 8},
        {"type": "dit", "width": 16, "depth": 1, "heads": 2},
        {"type": "mlp", "width": 32},
    ],
)
def test_every_model_of_ours_listens_to_a_condition(model: dict[str, Any]) -> None:
    config = make_config(dataset=DATASET, model=model)
    state = TrainState(config, load())
    train_until(state, 8 * config.batch_size)
    inputs = (torch.zeros(2, 1, 8, 8), torch.full((2,), 10.0))
    answers = [network(state, "raw")(*inputs, torch.full((2, 2, 2), v)) for v in (0.0, 1.0)]
    assert not torch.equal(*answers)
    assert torch.isfinite(sample(state, "raw", 3, steps=2)).all()


def test_a_condition_that_tells_the_image_is_learned_and_resumes(tmp_path: Path) -> None:
    config = make_config(
        dataset=DATASET, diffusion={"prediction": "x0"}, steps=150, report_every=150, batch_size=32
    )
    data = load()
    state, resumed = TrainState(config, data), TrainState(config, data)
    train_until(state, 75 * config.batch_size)
    checkpoint.save(state, tmp_path / "checkpoint.pt", None)
    checkpoint.load(resumed, tmp_path / "checkpoint.pt")
    train_until(state, config.samples)
    train_until(resumed, config.samples)
    assert report(state)["val_loss"] == report(resumed)["val_loss"]
    given = torch.tensor([[[-0.8, 0.64], [0.8, 1.0]], [[0.8, 0.64], [-0.8, 1.0]]])
    dark, light = sample(state, "raw", 2, labels=given).mean((1, 2, 3))
    assert dark < -0.5 and light > 0.5


UNET = {"block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1}
CONDITIONAL = {
    "type": "diffusers:UNet2DConditionModel",
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "mid_block_type": None,
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 4,
    **UNET,
}


@pytest.mark.parametrize("flat", [False, True])
def test_a_model_of_diffusers_attends_to_the_conditions(flat: bool, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    trial = SMALL | {"dataset": DATASET | {"flat": flat}, "model": CONDITIONAL}
    spec = completed_spec(make_spec(trial=trial), load(flat=flat))
    assert spec.trial.model.knobs()["cross_attention_dim"] == (1 if flat else 2)
    state, export = export_of(spec.trial.resolve(optimizer={"type": "adam", "lr": 1e-2}), tmp_path)
    net, inputs = network(state, "raw").eval(), (torch.zeros(2, 1, 8, 8), torch.zeros(2))
    given = torch.rand(2, 1) if flat else torch.rand(2, 2, 2)
    assert not torch.equal(net(*inputs, given), net(*inputs, 1 - given))
    assert torch.equal(net(*inputs, given), net(*inputs, given.flatten(1)))
    drawn = Exported(export).sample(2, steps=2, labels=given)
    assert torch.equal(drawn, sample(state, "raw", 2, steps=2, labels=given))


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ({"type": "diffusers:UNet2DModel"}, "takes no conditions"),
        (CONDITIONAL | {"cross_attention_dim": 4}, "is 4, a condition's last axis has 2"),
    ],
)
def test_a_model_of_diffusers_that_the_conditions_do_not_fit(
    model: dict[str, Any], fault: str
) -> None:
    pytest.importorskip("diffusers")
    with pytest.raises(ValueError, match=fault):
        TrainState(make_config(dataset=DATASET, model=model), load())
    with pytest.raises(ValueError, match=r"needs conditions .*, the dataset gives none"):
        try_model(make_config(model=CONDITIONAL), load_data(make_config().dataset))


def test_an_exported_model_has_to_be_told_its_conditions(tmp_path: Path) -> None:
    state, export = export_of(make_config(dataset=DATASET), tmp_path)
    exported, given = Exported(export), torch.rand(3, 2, 2)
    assert torch.equal(
        exported.sample(3, steps=2, labels=given), sample(state, "raw", 3, steps=2, labels=given)
    )
    flat = exported.sample(3, steps=2, labels=given.flatten(1).tolist())
    assert torch.equal(flat, exported.sample(3, steps=2, labels=given))
    for wrong in (None, torch.rand(3, 3), torch.rand(2, 2, 2)):
        with pytest.raises(ValueError, match="4 numbers for each of 3 samples"):
            exported.sample(3, labels=wrong)
