"""Clipping, what a trial tells of its stability, and micro-batches."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import torch
from support.specs import make_config, make_spec
from torch import Tensor, nn

from search.spec.checks import check
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.optimizers.clipping import Clipping
from trainable.optimizers.stability import (
    HORIZON,
    Spikes,
    StepLog,
    gradient_variance,
    update_ratio,
)
from trainable.report import report
from trainable.train import TrainState, backward, train_until

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


def weights_with(*grads: Tensor, weight: float = 1.0) -> list[Tensor]:
    made = [torch.full_like(grad, weight).requires_grad_() for grad in grads]
    for tensor, grad in zip(made, grads, strict=True):
        tensor.grad = grad.clone()
    return made


def test_without_clipping_the_norm_is_told_and_nothing_is_changed() -> None:
    weights = weights_with(torch.tensor([3.0, 0.0]), torch.tensor([[4.0]]))
    weights.append(torch.ones(2, requires_grad=True))  # not used: it has no gradient
    norm, clipped = Clipping(weights)()
    assert (norm.item(), clipped.item()) == (5.0, False)
    assert weights[0].grad is not None and weights[0].grad.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("limit,expected,was", [(1.0, [0.6, 0.8], True), (5.1, [3.0, 4.0], False)])
def test_clipping_by_norm(limit: float, expected: list[float], was: bool) -> None:
    (weight,) = weights_with(torch.tensor([3.0, 4.0]))
    norm, clipped = Clipping([weight], norm=limit)()
    assert (norm.item(), clipped.item()) == (5.0, was)
    assert weight.grad is not None and weight.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_clipping_by_value_comes_before_that_by_norm() -> None:
    (weight,) = weights_with(torch.tensor([3.0, -40.0]))
    norm, clipped = Clipping([weight], norm=2.5, value=4.0)()
    assert clipped and norm == pytest.approx(math.hypot(3, 40))  # of the gradient as it came
    assert weight.grad is not None and weight.grad.tolist() == pytest.approx([1.5, -2.0], rel=1e-5)


def test_agc_bounds_each_unit_by_its_weights_and_spares_the_output() -> None:
    grads = torch.tensor([[30.0, 40.0], [0.003, 0.004]]), torch.tensor([6.0, 8.0])
    matrix, vector, output = weights_with(*grads, torch.tensor([[100.0]]), weight=2.0)
    clipped = Clipping([matrix, vector, output], agc=0.01, output=[output])()[1]
    assert clipped and matrix.grad is not None and vector.grad is not None
    norms = matrix.grad.norm(dim=1).tolist()
    assert norms == pytest.approx([0.01 * 8**0.5, 0.005], rel=1e-5)  # rows by themselves
    assert vector.grad.norm() == pytest.approx(0.01 * 8**0.5, rel=1e-5)  # a vector as one
    assert output.grad is not None and output.grad.item() == 100


@pytest.mark.parametrize("key", ["clip_value", "clip_agc"])
def test_other_clippings_can_be_searched_and_told(key: str, data: Data) -> None:
    spec = make_spec(space={"optimizer": ["adam"], key: [None, 0.001]})
    assert list(check(spec)) == [] and key in dict(spec.space.dimensions("adam"))
    assert key not in dict(make_spec().space.dimensions("adam"))
    ((where, message),) = check(make_spec(space={key: [None, -1.0]}))
    assert where == ("space", key) and "-1" in message
    state = TrainState(make_config(**{key: 1e-4}), data)
    train_until(state, 4 * state.config.batch_size)
    assert report(state)["clipped"] > 0.5


def test_the_log_tells_means_and_shares_and_starts_anew() -> None:
    log = StepLog(2, CPU)
    for loss, norm, clipped in ((1.0, 2.0, True), (2.0, 4.0, False), (6.0, 6.0, False)):
        log.add(torch.tensor(loss), torch.tensor(norm), torch.tensor(clipped))
    expected = {"train_loss": 3.0, "grad_norm": 4.0, "clipped": pytest.approx(1 / 3)}
    assert log.take() == expected | {"loss_spikes": 0}
    assert log.count == 0


def test_spikes_are_counted_but_not_noise_nor_a_new_level() -> None:
    random.seed(0)
    calm = [1 + 0.1 * random.gauss(0, 1) for _ in range(1000)]
    assert counted(calm) == 0
    spiky = calm.copy()
    for place in (300, 301, 700):
        spiky[place] = 3.0
    assert counted(spiky) == 3
    assert counted([30.0, *calm[: HORIZON - 1]]) == 0  # too early to tell
    risen = calm[:500] + [loss + 2 for loss in calm[500:]]
    assert 1 <= counted(risen) < 40


def counted(losses: list[float]) -> int:
    spikes = Spikes()
    spikes.look(losses)
    return spikes.count


def test_the_update_ratio_is_the_share_of_the_norm_that_a_step_moves() -> None:
    before, after = [torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])]
    assert update_ratio(before, after) == pytest.approx(0.1)


def test_gradient_variance_is_that_of_single_examples() -> None:
    """Loss w * n with normal n: the gradient is n, of deviation 1, 2, 3 and 4 by quartile."""
    torch.manual_seed(0)
    weight = torch.zeros(500, requires_grad=True)
    places = 4 * 64
    deviation = torch.arange(1, 5).repeat_interleave(64)
    examples = torch.randn(places, 500) * deviation[:, None]
    found = gradient_variance(lambda cut: (examples[cut] @ weight).mean(), [weight], places, 16)
    assert [v / 500 for v in found] == pytest.approx([1, 4, 9, 16], rel=0.25)


def test_no_model_is_given_an_empty_batch_to_measure_its_gradients() -> None:
    weight = torch.zeros(1, requires_grad=True)

    def loss_of(cut: slice) -> Tensor:
        raise AssertionError(cut)

    assert gradient_variance(loss_of, [weight], 4, 1) == []


def test_a_report_holds_what_tells_of_stability(data: Data) -> None:
    state = TrainState(make_config(clip_norm=1e-3), data)
    train_until(state, state.config.samples)
    found = report(state)
    assert found["clipped"] == 1.0 and found["loss_spikes"] == 0
    assert 1e-5 < found["update_ratio"] < 1
    variances = [found[f"grad_variance_q{q}"] for q in range(1, 5)]
    assert all(variance > 0 for variance in variances)


def test_measuring_does_not_change_the_training(data: Data) -> None:
    watched, unwatched = TrainState(make_config(), data), TrainState(make_config(), data)
    for step in range(1, 9):
        train_until(watched, step * 8)
        report(watched)
    train_until(unwatched, 64)
    for one, other in zip(watched.trained.values(), unwatched.trained.values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    micro_batch: int, labels: bool, data: Data
) -> None:
    keys: dict[str, Any] = {"dataset": {"type": "digits", "labels": labels}}
    data = load_data(make_config(**keys).dataset)
    whole = TrainState(make_config(**keys), data)
    torch.manual_seed(1)
    nn.init.normal_(whole.model.leave.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    parts = TrainState(make_config(**keys, micro_batch=micro_batch), data)
    parts.model.load_state_dict(copy.deepcopy(whole.model.state_dict()))
    losses = [backward(state, state.batches.draw(0)) for state in (whole, parts)]
    assert torch.allclose(*losses, rtol=1e-5)
    for one, other in zip(whole.trained.values(), parts.trained.values(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-6, rtol=1e-4)
