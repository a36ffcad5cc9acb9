"""Training that begins from weights: loaded, frozen in part, adapted; and images augmented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from support.specs import SMALL, make_config, make_spec
from torch import Tensor, nn

from search.spec.checks import check
from search.spec.loading import load_spec
from trainable.actor import checkpoint
from trainable.base.folder import FolderStorage
from trainable.base.storage import Storage
from trainable.data.augment import Augment
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.data.shelf import Augmentation
from trainable.models.finetune import adapt, merged
from trainable.models.shelf import Adapters
from trainable.optimizers.build import state_bytes
from trainable.preflight import try_model
from trainable.report import network, report
from trainable.train import TrainState, train_until

CPU = torch.device("cpu")
ADAPTERS = {"rank": 2, "patterns": ["down.*", "condition.*"]}


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


@pytest.fixture
def trained(data: Data, tmp_path: Path) -> str:
    """Weights of a training that went before."""
    state = TrainState(make_config(), data)
    train_until(state, state.config.samples)
    path = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in state.model.state_dict().items()}, path)
    return str(path)


def test_a_training_begins_where_its_initial_weights_are(trained: str, data: Data) -> None:
    fresh, begun = TrainState(make_config(), data), TrainState(make_config(init=trained), data)
    assert report(begun)["val_loss"] < 0.95 * report(fresh)["val_loss"]
    spec = make_spec(trial=SMALL | {"init": trained, "freeze": ["enter.*"]})
    assert list(check(spec)) == []


def test_initial_weights_may_lie_on_s3(
    trained: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_disk(address: str) -> Storage:
        assert address == "s3://bucket/nets"
        return FolderStorage(str(Path(trained).parent))

    monkeypatch.setattr("trainable.models.finetune.open_storage", on_disk)
    there, here = (
        TrainState(make_config(init=init), data).model.state_dict()
        for init in ("s3://bucket/nets/model.safetensors", trained)
    )
    assert all(torch.equal(there[name], here[name]) for name in here)
    with pytest.raises(ValueError, match="can't read s3://bucket/nets/none: no such file"):
        try_model(make_config(init="s3://bucket/nets/none"), data)


def test_weights_that_do_not_fit_are_told(trained: str, data: Data, tmp_path: Path) -> None:
    wider = {"type": "unet", "channels": 16, "multipliers": [1]}
    with pytest.raises(ValueError, match=r"does not fit: .*'middle.1.norm.weight' is missing"):
        try_model(make_config(init=trained, model=wider), data)
    with pytest.raises(ValueError, match=r"trial.init: can't read .*absent.safetensors"):
        try_model(make_config(init=str(tmp_path / "absent.safetensors")), data)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"trial.init: can't read .*broken.safetensors"):
        try_model(make_config(init=str(tmp_path / "broken.safetensors")), data)


def test_frozen_weights_stay_and_have_no_optimizer_state_and_no_average(
    data: Data, tmp_path: Path
) -> None:
    config = make_config(freeze=["down.*", "condition.time.0.bias"])
    state, free = TrainState(config, data), TrainState(make_config(), data)
    before = {name: weight.clone() for name, weight in state.model.state_dict().items()}
    for s in (state, free):
        train_until(s, 4 * config.batch_size)
    frozen = {n for n in before if n.startswith("down.") or n == "condition.time.0.bias"}
    for name, weight in state.model.state_dict().items():
        assert torch.equal(weight, before[name]) == (name in frozen), name
    saved = sum(before[name].nbytes for name in frozen)
    assert state_bytes(free.optimizer) - state_bytes(state.optimizer) == 2 * saved
    assert not frozen & state.emas.averages["0.999"].keys()

    checkpoint.save(state, tmp_path / "checkpoint.pt", None)
    exported = checkpoint.read_weights(tmp_path / "checkpoint.pt", "0.999")
    assert exported.keys() == before.keys()
    assert all(torch.equal(exported[name], before[name]) for name in frozen)


@pytest.mark.parametrize(
    "keys,fault",
    [
        (
            {"freeze": ["dwon.*"]},
            r"trial.freeze: 'dwon.\*' matches no weight; the first are",
        ),
        ({"freeze": ["*"]}, "trial.freeze: nothing is left to train"),
        ({"adapters": {"patterns": ["norm"]}}, "'norm' matches no linear or convolution layer"),
        ({"augment": {"crop": 8}}, r"crop 8 needs images of more pixels a side, .* \(1, 8, 8\)"),
    ],
)
def test_patterns_that_do_nothing_are_refused(
    keys: dict[str, Any], fault: str, data: Data, trained: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        try_model(make_config(init=trained, **keys), data)


def test_augmentation_is_for_images() -> None:
    points = {"dataset": {"type": "points", "examples": 40}, "model": {"type": "mlp"}}
    config = make_config(**points, augment={"flip": True})
    with pytest.raises(ValueError, match=r"trial.augment: is for images, got .* shape \(2,\)"):
        try_model(config, load_data(config.dataset))


def test_adapters_need_weights_to_adapt() -> None:
    with pytest.raises(ValidationError, match="give init, too"):
        make_config(adapters={"rank": 4})


def test_adapters_begin_at_the_model_and_train_alone(trained: str, data: Data) -> None:
    plain = TrainState(make_config(init=trained), data)
    state = TrainState(make_config(init=trained, adapters=ADAPTERS), data)
    assert report(state)["val_loss"] == pytest.approx(report(plain)["val_loss"], rel=1e-6)
    assert all(name.endswith((".0.A", ".0.B")) for name in state.trained)
    assert len(state.trained) == 2 * 5  # two of time, and three in the one residual block
    before = report(state)["val_loss"]
    train_until(state, state.config.samples)
    assert report(state)["val_loss"] < before


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_adapted_weights_are_exported_merged_and_resume(
    optimizer: str, trained: str, data: Data, tmp_path: Path
) -> None:
    config = make_config({"type": optimizer, "lr": 1e-2}, init=trained, adapters=ADAPTERS)
    unbroken, stopped, resumed = (TrainState(config, data) for _ in range(3))
    train_until(unbroken, 64)
    train_until(stopped, 24)
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(stopped, path, None)
    checkpoint.load(resumed, path)
    train_until(resumed, 64)
    checkpoint.save(resumed, path, None)
    inputs = (torch.ones(2, 1, 8, 8), torch.ones(2))
    plain = TrainState(make_config(), data)
    for weights in ("raw", "0.999"):
        plain.model.load_state_dict(checkpoint.read_weights(path, weights))
        answer = network(unbroken, weights)(*inputs)
        assert torch.allclose(plain.model(*inputs), answer, atol=1e-5)


@pytest.mark.parametrize(
    "layer,x",
    [
        (nn.Linear(6, 4), torch.randn(2, 6)),
        (nn.Conv1d(6, 4, 3), torch.randn(2, 6, 5)),
        (nn.Conv2d(6, 4, 3, groups=2), torch.randn(2, 6, 5, 5)),
    ],
)
def test_a_merged_layer_answers_as_the_adapted_one(layer: nn.Module, x: Tensor) -> None:
    model = nn.Sequential(layer)
    plain_names = set(model.state_dict())
    adapt(model, Adapters(rank=2, alpha=6.0))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".B"):
                weight.normal_()
    answer = model(x)
    state = merged(model.state_dict())
    assert set(state) == plain_names
    plain = nn.Sequential(type(layer)(6, 4, *([] if x.ndim == 2 else [3])))
    if x.ndim == 4:
        plain = nn.Sequential(nn.Conv2d(6, 4, 3, groups=2))
    plain.load_state_dict(state)
    assert torch.allclose(plain(x), answer, atol=1e-5)


def test_images_are_moved_within_bounds_and_flipped_half_of_the_time() -> None:
    image = torch.arange(2 * 6 * 5.0).view(1, 2, 6, 5)
    augment = Augment(Augmentation(flip=True, crop=1), (2, 6, 5), 0, CPU)
    many = augment(image.repeat(400, 1, 1, 1))
    padded = nn.functional.pad(image, (1, 1, 1, 1), mode="reflect")
    expected = {
        tuple((window.flip(-1) if flip else window).flatten().tolist()): flip
        for y in range(3)
        for x in range(3)
        for flip in (False, True)
        for window in [padded[0, :, y : y + 6, x : x + 5]]
    }
    found = [tuple(one.flatten().tolist()) for one in many]
    assert set(found) == expected.keys()  # every move, each way
    assert 150 < sum(expected[one] for one in found) < 250


def test_augmentation_has_a_stream_of_its_own_that_resumes(data: Data, tmp_path: Path) -> None:
    augment = {"flip": True, "crop": 1}
    plain, varied = (TrainState(make_config(augment=a), data) for a in (None, augment))
    batches = [state.batches.draw(0) for state in (plain, varied)]
    assert not torch.equal(batches[0].x0, batches[1].x0)
    assert torch.equal(batches[0].noise, batches[1].noise)
    assert torch.equal(plain.validation.x0, varied.validation.x0)

    checkpoint.save(varied, tmp_path / "checkpoint.pt", None)
    resumed = TrainState(make_config(augment=augment), data)
    checkpoint.load(resumed, tmp_path / "checkpoint.pt")
    assert torch.equal(varied.batches.draw(8).x0, resumed.batches.draw(8).x0)
    other = TrainState(make_config(augment=augment | {"seed": 1}), data).batches.draw(0)
    assert not torch.equal(other.x0, batches[1].x0) and torch.equal(other.noise, batches[1].noise)


def test_the_augmentation_of_an_example_does_not_depend_on_the_batch_size() -> None:
    images = torch.randn(8, 1, 6, 6)
    config = Augmentation(flip=True, crop=2)
    whole, parts = (Augment(config, (1, 6, 6), 0, CPU) for _ in range(2))
    assert torch.equal(whole(images), torch.cat([parts(part) for part in images.split(4)]))


def test_initial_weights_are_relative_to_the_spec(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: tuned\ntrial: {init: weights/base.safetensors}\n")
    spec = load_spec(tmp_path / "spec.yaml")
    assert spec.trial.init == str(tmp_path / "weights" / "base.safetensors")
