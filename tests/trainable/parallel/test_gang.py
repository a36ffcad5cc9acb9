"""Several workers train what one would, up to rounding, and no one waits for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.crew import Crew
from support.specs import make_config
from support.training import HERE, LRS, TIMING
from torch import Tensor, nn

from search.spec.space import keeps_lr
from trainable.actor import checkpoint
from trainable.config import TrialConfig
from trainable.data.parts import Data, Part
from trainable.parallel import gradients
from trainable.parallel.gang import Gang, GangBroken
from trainable.report import report
from trainable.train import TrainState, backward, train_until

# how far weights may be apart, in units of the way they went: muon orthogonalizes in bf16, and
# soap turns its gradients into bases that rounding turns, too
APART = {"muon": 0.2, "soap": 1e-2, "nadam": 1e-3}
TINY = {"type": "mlp", "width": 16, "depth": 1}


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    crew = Crew(3)
    yield crew
    crew.end()


def images() -> Data:
    random = np.random.default_rng(0)
    parts = [
        Part(random.integers(0, 256, (n, 1, 8, 8)).astype(np.uint8), np.arange(n) % 3)
        for n in (40, 16, 16)
    ]
    return Data(*parts)


class Ended:
    """What is left of a training, to be sent and compared."""

    def __init__(self, state: TrainState, start: np.ndarray, metrics: dict[str, Any]) -> None:
        self.start, self.weights = start, weights(state)
        self.averages = flat(w for a in state.emas.averages.values() for w in a.values())
        self.buffers = flat(state.model.buffers())
        self.metrics = {k: v for k, v in metrics.items() if k not in TIMING}
        self.diverged_at = state.diverged_at

    def apart(self, other: Ended) -> float:
        way = np.linalg.norm(other.weights - other.start)
        return float(np.linalg.norm(self.weights - other.weights) / way)


def flat(tensors: Any) -> np.ndarray:
    parts = [tensor.detach().double().flatten() for tensor in tensors]
    return torch.cat(parts).numpy() if parts else np.zeros(0)


def weights(state: TrainState) -> np.ndarray:
    return flat(state.model.parameters())


def train(
    gang: Gang, config: TrialConfig, data: Data | None = None, legs: tuple[Path | int, ...] = ()
) -> Ended:
    """Train to the end, or in `legs`: begin from a path, train for so many steps, save to one."""
    state = TrainState(config, data or images(), gang=gang)
    start = weights(state)
    for leg in legs or (config.steps,):
        if isinstance(leg, int):
            train_until(state, (state.step + leg) * config.batch_size)
        elif state.step == 0:
            checkpoint.load(state, leg)
        elif gang.rank == 0:
            checkpoint.save(state, leg, None)
    return Ended(state, start, report(state))


def check_equal(workers: list[Any], alone: Ended, apart: float = 1e-4) -> None:
    for worker in workers:
        assert isinstance(worker, Ended), worker
        assert np.array_equal(worker.weights, workers[0].weights)  # to the last bit
        assert np.array_equal(worker.averages, workers[0].averages)
        assert worker.metrics == workers[0].metrics
    assert workers[0].apart(alone) < apart
    for name, value in alone.metrics.items():
        if isinstance(value, float):
            assert workers[0].metrics[name] == pytest.approx(value, rel=max(1e-3, apart)), name


@pytest.mark.parametrize("optimizer", HERE)
def test_workers_train_what_one_does(optimizer: str, crew: Crew) -> None:
    config = make_config(
        {"type": optimizer, "lr": LRS.get(optimizer, 1e-2)},
        warmup=0.2,
        lr_schedule="constant" if keeps_lr(optimizer) else "cosine",
        clip_norm=1.0,
        steps=6,
    )
    alone = train(Gang(), config)
    for size in (2, 3):  # of 8 examples, two have 4 each, and three 2, 3 and 3
        check_equal(crew.run(size, train, config), alone, APART.get(optimizer, 1e-4))


@pytest.mark.parametrize(
    ("settings", "apart"),
    [
        ({"clip_value": 1e-3}, 1e-4),
        ({"clip_agc": 1e-2}, 1e-4),
        ({"micro_batch": 2}, 1e-4),
        ({"precision": "bf16"}, 0.1),
        ({"augment": {"flip": True, "crop": 1}}, 1e-4),
        ({"diffusion": {"prediction": "v", "min_snr_gamma": 5.0}}, 1e-4),
        ({"freeze": ["enter.*", "down.*"]}, 1e-4),
        ({"steps": 30, "ema": ["0.9"]}, 1e-3),
    ],
)
def test_what_is_set_beside_the_optimizer_sees_the_whole_batch(
    settings: dict[str, Any], apart: float, crew: Crew
) -> None:
    config = make_config({"type": "adamw", "lr": 1e-2}, **({"steps": 4} | settings))
    alone = train(Gang(), config, images())
    check_equal(crew.run(3, train, config, images()), alone, apart)


def test_a_checkpoint_goes_on_with_any_number_of_workers(crew: Crew, tmp_path: Path) -> None:
    config = make_config(steps=9)
    one, three = tmp_path / "one.pt", tmp_path / "three.pt"
    unbroken = train(Gang(), config)
    train(Gang(), config, None, (3, one))
    check_equal(
        crew.run(3, train, config, None, (one, 3, three)), train(Gang(), config, None, (6,))
    )
    check_equal(crew.run(2, train, config, None, (three, 3)), unbroken)
    assert train(Gang(), config, None, (three, 3)).apart(unbroken) < 1e-4


def test_a_gang_that_is_resumed_equals_the_unbroken_one_with_dropout(
    crew: Crew, tmp_path: Path
) -> None:
    config = make_config(steps=6, model={**TINY, "dropout": 0.5})
    unbroken, path = crew.run(2, train, config), tmp_path / "checkpoint.pt"
    crew.run(2, train, config, None, (3, path))
    resumed = crew.run(2, train, config, None, (path, 3))
    check_equal(resumed, unbroken[0], 1e-12)
    assert unbroken[0].apart(train(Gang(), config)) > 1e-2  # other units are dropped


def drawn(gang: Gang) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    with gang.apart(7, 3):
        inside = torch.rand(3)
    return inside, torch.rand(3), gang.own(torch.Generator()).get_state()


def test_each_worker_draws_apart_and_all_go_on_together(crew: Crew) -> None:
    one, other = crew.run(2, drawn)
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[2], other[2])
    assert torch.equal(one[1], other[1])
    torch.manual_seed(0)
    assert torch.equal(one[1], torch.rand(3))


def test_all_diverge_at_the_same_step(crew: Crew) -> None:
    config = make_config({"type": "sgd", "lr": 1e6}, steps=60)
    alone = train(Gang(), config)
    workers = crew.run(3, train, config)
    assert [worker.diverged_at for worker in workers] == [alone.diverged_at] * 3
    assert alone.diverged_at is not None


class Sometimes(nn.Module):
    """Weights for bright examples, weights for dark ones, and weights for none; and a norm."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bright, self.dark, self.none = (nn.Parameter(torch.ones(1, 8, 8)) for _ in range(3))
        self.norm = nn.BatchNorm2d(1)
        self.register_buffer("mask", torch.tensor([True, False]))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        x = self.norm(x)
        parts = [x[i] * (self.bright if labels[i] else self.dark) for i in range(len(x))]
        return torch.stack(parts)


def gradients_of(gang: Gang, config: TrialConfig, data: Data, bucket: int) -> list[Any]:
    gradients.BUCKET = bucket
    state = TrainState(config, data, gang=gang)
    batch = state.batches.draw(0)
    state.model.train()
    loss = backward(state, batch)
    found = [None if w.grad is None else w.grad.clone() for w in state.model.parameters()]
    gang.average(state.model.buffers())
    return [loss, found, [b.clone() for b in state.model.buffers()]]


@pytest.mark.parametrize("bucket", [1, 25 << 20])
def test_weights_that_only_some_workers_use_have_the_whole_gradient(
    bucket: int, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.parallel.gradients.BUCKET", bucket)
    data = images()
    first = TrainState(make_config(), data).batches._indices(0)[:4].numpy()
    data.train.labels[:] = 0  # the first worker's examples alone are bright
    data.train.labels[first] = 1
    config = make_config(model={"type": f"{__name__}:Sometimes"}, batch_size=8)
    workers = crew.run(2, gradients_of, config, data, bucket)
    assert not isinstance(workers[0], Exception), workers[0]
    for (loss, found, buffers), (_, others, same) in [workers, workers[::-1]]:
        bright, dark, none, *norm = found
        assert none is None and bright.abs().sum() > 0 and dark.abs().sum() > 0
        assert all(
            torch.equal(a, b)
            for a, b in zip([bright, dark, *norm], [*others[:2], *others[3:]], strict=True)
        )
        assert all(torch.equal(a, b) for a, b in zip(buffers, same, strict=True))
        assert loss == workers[0][0]
    mask, mean, variance, batches = (workers[0][2][i] for i in (0, 1, 2, 3))
    assert mask.tolist() == [True, False] and batches == 1 and mean != 0 and variance != 1


def leave_or_wait(gang: Gang, how: str) -> float:
    """The first worker waits for the second, which fails or sleeps; seconds it waited."""
    began = time.monotonic()
    if gang.rank == 1:
        if how == "sleeps":
            time.sleep(2)
        return 0.0
    with pytest.raises(GangBroken):
        gang.total(torch.ones(3))
    return time.monotonic() - began


@pytest.mark.parametrize(("how", "patience"), [("fails", 200.0), ("sleeps", 1.0)])
def test_nobody_waits_for_ever(how: str, patience: float, crew: Crew) -> None:
    waited, _ = crew.run(2, leave_or_wait, how, patience=patience)
    assert isinstance(waited, float) and waited < 100


@pytest.mark.parametrize(("examples", "size"), [(8, 3), (3, 3), (100, 7)])
def test_parts_cover_a_batch_and_differ_by_one_at_most(examples: int, size: int) -> None:
    gang, taken = Gang(), []
    gang.size = size
    for gang.rank in range(size):
        part = gang.part(examples)
        assert part.stop - part.start in (examples // size, -(-examples // size))
        taken += range(examples)[part]
    assert taken == list(range(examples))
