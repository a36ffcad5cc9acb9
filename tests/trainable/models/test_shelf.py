"""What every model of the shelf keeps to: shapes, noise levels, classes, gradients, refusals."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from support.specs import SMALL, make_config, make_spec

from search.spec.checks import check
from trainable.config import TrialSettings
from trainable.contract import broken
from trainable.data.loading import load_data
from trainable.data.parts import Data, Part
from trainable.models.build import build_model
from trainable.models.shelf import MODELS, DiT, UNet
from trainable.preflight import try_model
from trainable.report import sample
from trainable.train import TrainState, train_until

CPU = torch.device("cpu")
DIFFUSERS = {
    "type": "diffusers:UNet2DModel",
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
# each model of the shelf with knobs and shapes that it takes
SHELF: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    *(({"type": n, **knobs}, shape) for n, m in MODELS.items() for knobs, shape in m.tried),
    (DIFFUSERS, (1, 8, 8)),
]


def settings(model: dict[str, Any], prediction: str = "eps") -> TrialSettings:
    return TrialSettings.model_validate({"model": model, "diffusion": {"prediction": prediction}})


def examples(shape: tuple[int, ...], classes: int) -> Data:
    """Noise in place of data."""
    random = np.random.default_rng(0)

    def part(n: int) -> Part:
        x = random.standard_normal((n, *shape)).astype(np.float32)
        return Part(x, np.arange(n) % classes if classes else None)

    return Data(part(16), part(8), part(8))


def skip_without(model: dict[str, Any]) -> None:
    if model["type"].startswith("diffusers"):
        pytest.importorskip("diffusers")


def test_the_contract_is_tested_on_every_model_of_the_shelf() -> None:
    assert MODELS.keys() | {"diffusers"} == {m["type"].partition(":")[0] for m, _ in SHELF}


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("prediction", ["eps", "v", "edm", "flow"])
@pytest.mark.parametrize(("model", "shape"), SHELF, ids=map(str, SHELF))
def test_gradients_reach_every_weight_and_each_input_matters(
    model: dict[str, Any], shape: tuple[int, ...], prediction: str, classes: int
) -> None:
    skip_without(model)
    given, data = settings(model, prediction), examples(shape, classes)
    try_model(given, data)
    assert broken(given, data, CPU) == []


class Deaf(torch.nn.Module):
    """Keeps to nothing."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.used(x - x.mean(0)).double()


def test_what_a_model_does_not_keep_to_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.models.unet.Deaf", Deaf, raising=False)
    before = torch.get_rng_state()
    told = broken(settings({"type": "trainable.models.unet:Deaf"}), examples((2,), 3), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert told == [
        "no gradient reaches the weights unused.weight, unused.bias",
        "the model answers torch.float64, not torch.float32",
        "the model's answer to an example depends on the others in its batch",
        "the model's answer does not depend on the noise level t",
        "the model's answer does not depend on the labels",
    ]


@pytest.mark.parametrize(("model", "shape"), SHELF, ids=map(str, SHELF))
def test_every_model_trains_and_samples_with_classes(
    model: dict[str, Any], shape: tuple[int, ...]
) -> None:
    skip_without(model)
    state = TrainState(make_config(model=model, steps=2), examples(shape, classes=3))
    train_until(state, state.config.samples)
    assert state.diverged_at is None and state.step == 2
    assert sample(state, "raw", 5, steps=2).shape == (5, *shape)


@pytest.mark.parametrize(
    ("model", "shape", "fault"),
    [
        ({"type": "unet", "multipliers": [1, 1, 1]}, (1, 6, 8), r"multiples of 4, got .*1, 6, 8"),
        ({"type": "unet"}, (30,), r"needs images .* got examples of shape \(30,\)"),
        ({"type": "dit", "patch": 3}, (1, 8, 8), r"multiples of 3, got"),
        ({"type": "dit"}, (30,), r"needs images \(C, H, W\) or trajectories"),
        ({"type": "torch.nn:Linear"}, (2,), r"torch.nn:Linear can't be built: TypeError"),
        ({"type": "torch.nn:Flatten"}, (2,), r"Flatten can't be built|Flatten fails on examples"),
        (
            {"type": "trainable.models.unet:Nothing"},
            (2,),
            r"can't import 'trainable.models.unet:Nothing'",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    model: dict[str, Any], shape: tuple[int, ...], fault: str
) -> None:
    with pytest.raises(ValueError, match=f"trial.model: .*{fault}") as raised:
        try_model(settings(model), examples(shape, 0))
    assert "\n" not in str(raised.value)


def test_a_model_that_answers_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(torch.nn.Module):
        def __init__(self, shape: tuple[int, ...]) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x[:, :1]

    monkeypatch.setattr("trainable.models.unet.Wrong", Wrong, raising=False)
    with pytest.raises(ValueError, match=r"answers shape \(1, 8, 8\) to examples .* \(3, 8, 8\)"):
        try_model(settings({"type": "trainable.models.unet:Wrong"}), examples((3, 8, 8), 0))


def test_heads_share_the_width_of_a_transformer() -> None:
    with pytest.raises(ValueError, match="width 128 is no multiple of heads 3"):
        DiT(heads=3)
    assert UNet().channels == 32


def test_a_missing_diffusers_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.models.shelf.find_spec", lambda name: None)
    fault = "diffusers:UNet2DModel needs the package diffusers; pip install 'diffsweep[diffusers]'"
    with pytest.raises(ValueError, match=re.escape(fault)):
        try_model(settings(DIFFUSERS), examples((1, 8, 8), 0))
    spec = make_spec(trial=SMALL | {"model": DIFFUSERS})
    assert list(check(spec)) == [(("trial", "model", "type"), fault)]


def test_a_class_that_diffusers_lacks_is_told() -> None:
    pytest.importorskip("diffusers")
    for name, fault in (("UNet3000", "no attribute UNet3000"), ("DDPMScheduler", "is no model")):
        with pytest.raises(ValueError, match=fault):
            try_model(settings({"type": f"diffusers:{name}"}), examples((1, 8, 8), 0))


def test_unconditional_training_is_as_before_labels_exist() -> None:
    data = load_data(make_config().dataset)
    assert data.classes == 0
    net = build_model(settings({"type": "unet"}).model, data, 1.0)
    assert not any("label" in name for name, _ in net.named_parameters())
