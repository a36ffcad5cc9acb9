"""What a training tells at a report: its losses on held-out data, its speed, and its samples."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from trainable.base.shelf import load
from trainable.base.tensors import view
from trainable.config import TrialConfig
from trainable.data.parts import FiledPart, Part
from trainable.diffusion.process import Network
from trainable.diffusion.sampling import draw
from trainable.diffusion.validation import Validation
from trainable.metrics import METRICS, TEST_METRICS
from trainable.optimizers.build import state_bytes
from trainable.optimizers.stability import VARIANCE_EVERY, VARIANCE_SHARE, gradient_variance
from trainable.train import TrainState, autocast, current_lr, final_turns, held_out

RAW = "raw"  # the name of the weights themselves, beside those of the EMAs


def report(state: TrainState) -> dict[str, Any]:
    """Validate, and say how the training stands. `weights` names the best: raw, or an EMA."""
    began = time.perf_counter()
    losses = {name: validate(state, name) for name in (RAW, *state.emas.averages)}
    best = min(losses, key=lambda name: (math.isnan(losses[name][0]), losses[name][0]))
    metrics: dict[str, Any] = {
        "step": state.step,
        "samples": state.samples,
        **state.log.take(),
        **gradient_variances(state),
        "val_loss": losses[best][0],
        **{f"val_loss_q{q}": value for q, value in enumerate(losses[best][1:], start=1)},
        **test_losses(state, best),
        **final_losses(state, best, losses[best]),
        "weights": best,
        "validation_seconds": time.perf_counter() - began,
        "parameters": sum(weight.numel() for weight in state.model.parameters()),
        **measured(state),
    }
    state.seconds, state.timed_steps = 0.0, 0
    if state.diverged_at is None and not math.isfinite(metrics["val_loss"]):
        state.diverged_at = state.step
    return metrics


def measured(state: TrainState) -> dict[str, float]:
    """The metrics of the shelf that are measured one by one."""
    shelf = {name: metric.measure for name, metric in METRICS.items() if metric.measure}
    values = {name: load(measure)(state) for name, measure in shelf.items()}
    return {name: value for name, value in values.items() if value is not None}


def last_update_ratio(state: TrainState) -> float | None:
    """How far the last step moved the weights, in units of their norm."""
    return None if state.update_ratio is None else state.update_ratio.item()


def last_lr(state: TrainState) -> float:
    """The learning rate of the last step."""
    return current_lr(state.config, max(state.step - 1, 0))


def steps_per_second(state: TrainState) -> float:
    """Since the last report, without validation."""
    return state.timed_steps / state.seconds if state.seconds else 0.0


def optimizer_bytes(state: TrainState) -> int:
    """Of the state that the optimizer keeps beside weights and gradients."""
    return state_bytes(state.optimizer)


def peak_memory_bytes(state: TrainState) -> int:
    """The most memory used so far: on CUDA of tensors on the device, else of the process."""
    return state.memory.bytes()


def gradient_variances(state: TrainState) -> dict[str, float]:
    """The variance of gradients by noise level, which is measured only now and then."""
    config, validation = state.config, state.validation
    every = math.ceil(VARIANCE_EVERY / config.report_every) * config.report_every
    due = state.step % every == 0 or state.step == config.steps
    if not due or state.diverged_at is not None or not isinstance(validation, Validation):
        return {}

    def loss_of(cut: slice) -> Tensor:
        with autocast(state):
            return validation.each(state.model, cut).mean()

    state.model.eval()
    size = max(1, config.batch_size // VARIANCE_SHARE)
    weights = list(state.trained.values())
    variances = gradient_variance(loss_of, weights, len(validation.u), size)
    return {f"grad_variance_q{q}": v for q, v in enumerate(variances, start=1)}


def next_report(config: TrialConfig, rungs: list[int], samples: int) -> tuple[int, bool]:
    """Samples at the next report after `samples`, in whole steps, and whether it is at a rung.

    There is a report every `report_every` steps, at each rung, and at the end of the budget.
    """
    batch = config.batch_size
    every = config.report_every * batch
    at_rungs = {-(-rung // batch) * batch for rung in rungs}  # rounded up to whole steps
    regular = (samples // every + 1) * every
    target = min([regular, config.samples, *(rung for rung in at_rungs if rung > samples)])
    return target, target in at_rungs


def validate(state: TrainState, weights: str) -> list[float]:
    """Validation loss with the named weights: overall, then by quartile of the noise level."""
    state.model.eval()
    with autocast(state):
        return state.validation.losses(network(state, weights))


def final_losses(state: TrainState, weights: str, few: list[float]) -> dict[str, float]:
    """Of a finished training: its losses over all turns, which rank it and judge it.

    With the standard error of their luck in noise and examples, and what the first turn alone
    says (`_few`), which is what earlier reports compare with.
    """
    turns = final_turns(state.config)
    if turns == 1 or state.samples < state.config.samples or state.diverged_at is not None:
        return {}
    state.model.eval()
    found = over_turns(state, weights, False, few, turns)
    metrics = named("val_loss", found, few)
    if state.test is not None:
        with autocast(state):
            first = state.test.losses(network(state, weights))
        metrics |= named("test_loss", over_turns(state, weights, True, first, turns), first)
    return metrics


def over_turns(
    state: TrainState, weights: str, test: bool, first: list[float], turns: int
) -> np.ndarray:
    """The losses of each turn, [turns, 1 + quartiles]."""
    net = network(state, weights)
    with autocast(state):
        rest = [held_out(state, test, turn).losses(net) for turn in range(1, turns)]
    return np.array([first, *rest])


def named(name: str, found: np.ndarray, few: list[float]) -> dict[str, float]:
    """Means over turns by the names of their metrics, and the standard error of the first."""
    whole, *quartiles = found.mean(0).tolist()
    return {
        name: whole,
        **{f"{name}_q{q}": value for q, value in enumerate(quartiles, start=1)},
        f"{name}_se": float(found[:, 0].std(ddof=1) / math.sqrt(len(found))),
        f"{name}_few": few[0],
    }


def test_losses(state: TrainState, weights: str) -> dict[str, float]:
    """The loss on the test part, overall and by quartile, where it was asked for."""
    if state.test is None:
        return {}
    state.model.eval()
    with autocast(state):
        losses = state.test.losses(network(state, weights))
    return dict(zip(TEST_METRICS, losses, strict=True))


@torch.no_grad()
def sample(
    state: TrainState, weights: str, count: int, steps: int = 40, labels: Tensor | None = None
) -> Tensor:
    """`count` samples with the named weights, [count, *shape], from noise of a fixed seed.

    Of data with labels, those of the given classes [count], or of all in turn; of data with
    conditions, those of the given ones, or of the training examples' in turn.
    """
    generator = torch.Generator().manual_seed(state.config.seed)
    noise = torch.randn(count, *state.batches.shape, generator=generator).to(state.device)
    net = network(state, weights)
    if state.batches.labels is not None and labels is None:
        labels = torch.arange(count)
        if state.batches.classes:
            labels = labels % state.batches.classes
        else:
            labels = conditions(state.data.train, count)
    state.model.eval()
    with autocast(state):
        return draw(state.process, net, noise, labels, steps, state.limit)


def conditions(part: Part | FiledPart, count: int) -> Tensor:
    """Those of the first examples, [count, ...]; from the first again where they don't suffice."""
    given = part.take(np.arange(count) % len(part.x)).labels
    assert given is not None
    return view(given)


def network(state: TrainState, weights: str) -> Network:
    """The model with the named weights in place of its own."""
    if weights == RAW and not state.modes:
        return state.model
    if weights == RAW:
        average = dict(zip(state.trained, state.evaluated(), strict=True))
    else:
        average = state.emas.averages[weights]
    return lambda *inputs: functional_call(state.model, average, inputs)
