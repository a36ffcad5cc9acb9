"""The training of one diffusion model: the plain loop, without Ray. Read it top to bottom."""

from __future__ import annotations

import gc
import math
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_

from trainable.config import TrialConfig, TrialSettings
from trainable.datasets import Data
from trainable.diffusion import Network, build_process, loss
from trainable.ema import Emas
from trainable.lr_schedules import lr_factor
from trainable.metrics import DivergenceWatch, PeakMemory, RunningMeans, Validation
from trainable.optimizers import build_optimizer, optimizer_bytes
from trainable.shelf import told
from trainable.tensors import scaled, view

SAMPLE_BATCH = 128  # samples drawn at once
RAW = "raw"  # the name of the weights themselves, beside those of the EMAs


class TrainState:
    """All that one training holds: what it was told, and what it has become."""

    def __init__(self, config: TrialConfig, data: Data) -> None:
        self.config, self.data = config, data
        self.device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)  # initial weights, dropout
        self.process = build_process(config.diffusion, self.device)
        self.model = build_model(config, data, self.process.time_scale).to(self.device)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.emas = Emas(config.ema, self.model)
        self.batches = Batches(data, config, self.device)
        self.validation = Validation(
            self.process,
            data.validation,
            config.validation_examples or len(data.validation.x) // 4 * 4,
            config.batch_size,
            self.device,
        )
        self.step = 0
        self.diverged_at: int | None = None  # the step whose gradient was not finite
        self.means = RunningMeans(("train_loss", "grad_norm"), self.device)
        self.watch = DivergenceWatch(self.device)
        self.memory = PeakMemory(self.device)
        self.seconds, self.timed_steps = 0.0, 0  # spent in training since the last report

    @property
    def samples(self) -> int:
        """Examples seen: the clock of a trial."""
        return self.step * self.config.batch_size


def train_until(state: TrainState, samples: int) -> None:
    """Train until `samples` examples have been seen, or until the training diverges."""
    config, model, optimizer = state.config, state.model, state.optimizer
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    largest_norm = math.inf if config.clip_norm is None else config.clip_norm
    began, first_step = time.perf_counter(), state.step
    model.train()
    while state.samples < samples and state.diverged_at is None:
        x0, labels, noise, u = state.batches.draw(state.samples)
        with autocast(state):
            mean_loss = loss(state.process, model, x0, noise, u, labels).mean()
        mean_loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = clip_grad_norm_(weights, largest_norm, foreach=True)  # the norm before
        if state.watch.diverged(grad_norm):
            state.diverged_at = state.step
            break
        set_lr(optimizer, current_lr(config, state.step))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.emas.update(state.step)
        state.means.add(mean_loss, grad_norm)
    if state.diverged_at is None and state.watch.flush():
        state.diverged_at = state.step - 1
    state.seconds += time.perf_counter() - began
    state.timed_steps += state.step - first_step


def report(state: TrainState) -> dict[str, Any]:
    """Validate, and say how the training stands. `weights` names the best: raw, or an EMA."""
    losses = {name: validate(state, name) for name in (RAW, *state.emas.averages)}
    best = min(losses, key=lambda name: (math.isnan(losses[name][0]), losses[name][0]))
    metrics: dict[str, Any] = {
        "step": state.step,
        "samples": state.samples,
        **state.means.take(),
        "lr": current_lr(state.config, max(state.step - 1, 0)),
        "val_loss": losses[best][0],
        **{f"val_loss_q{q}": value for q, value in enumerate(losses[best][1:], start=1)},
        "weights": best,
        "steps_per_second": state.timed_steps / state.seconds if state.seconds else 0.0,
        "parameters": sum(weight.numel() for weight in state.model.parameters()),
        "optimizer_bytes": optimizer_bytes(state.optimizer),
        "peak_memory_bytes": state.memory.bytes(),
    }
    state.seconds, state.timed_steps = 0.0, 0
    if state.diverged_at is None and not math.isfinite(metrics["val_loss"]):
        state.diverged_at = state.step
    return metrics


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


@torch.no_grad()
def sample(
    state: TrainState, weights: str, count: int, steps: int = 40, labels: Tensor | None = None
) -> Tensor:
    """`count` samples with the named weights, [count, *shape], from noise of a fixed seed.

    Of data with labels, those of the given classes [count], or of all in turn.
    """
    generator = torch.Generator().manual_seed(state.config.seed)
    noise = torch.randn(count, *state.batches.shape, generator=generator).to(state.device)
    net = network(state, weights)
    if state.batches.classes and labels is None:
        labels = torch.arange(count) % state.batches.classes
    state.model.eval()
    parts = []
    for start in range(0, count, SAMPLE_BATCH):
        cut, bound = slice(start, start + SAMPLE_BATCH), net
        if labels is not None:
            bound = partial(_with_labels, net, labels[cut].to(state.device))
        with autocast(state):
            parts.append(state.process.sample(bound, noise[cut], steps).float().cpu())
    return torch.cat(parts)


def _with_labels(net: Network, labels: Tensor, x: Tensor, t: Tensor) -> Tensor:
    answer: Tensor = net(x, t, labels)
    return answer


def network(state: TrainState, weights: str) -> Network:
    """The model with the named weights in place of its own."""
    if weights == RAW:
        return state.model
    average = state.emas.averages[weights]
    return lambda *inputs: functional_call(state.model, average, inputs)


def current_lr(config: TrialConfig, step: int) -> float:
    factor = lr_factor(config.lr_schedule, config.warmup_steps, step, config.steps)
    return config.optimizer.lr * factor


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def autocast(state: TrainState) -> torch.autocast:
    return torch.autocast(
        state.device.type, torch.bfloat16, enabled=state.config.precision == "bf16"
    )


class Batches:
    """The stream of training batches: for one seed, the same in every trial.

    Which example comes at which place depends on the seed and the place alone, so the batch size
    does not change the order; noise and noise levels come from one generator.
    """

    def __init__(self, data: Data, config: TrialConfig, device: torch.device) -> None:
        self.x = view(data.train.x).to(device)
        labels = data.train.labels
        self.labels = None if labels is None else view(labels).to(device)
        self.shape, self.classes = data.shape, data.classes
        self.batch_size, self.seed, self.device = config.batch_size, config.seed, device
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self._orders: dict[int, Tensor] = {}  # epoch -> permutation

    def draw(self, place: int) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """The batch that begins at `place`: examples, their labels, noise, and quantiles u."""
        index = self._indices(place)
        x0 = scaled(self.x[index])
        noise = torch.randn(x0.shape, generator=self.generator, device=self.device)
        u = torch.rand(len(x0), generator=self.generator, device=self.device)
        return x0, None if self.labels is None else self.labels[index], noise, u

    def _indices(self, place: int) -> Tensor:
        n, parts, missing = len(self.x), [], self.batch_size
        while missing:
            epoch, start = divmod(place, n)
            part = self._order(epoch)[start : start + missing]
            parts.append(part)
            place, missing = place + len(part), missing - len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self.seed + (epoch << 32))
            order = torch.randperm(len(self.x), generator=generator).to(self.device)
            self._orders = {epoch: order}
        return self._orders[epoch]


def try_model(settings: TrialSettings, data: Data) -> None:
    """Build the model and give it two examples, to see that it takes this data.

    Raises:
        ValueError: it does not; the message says why.
    """
    name, cpu = settings.model.type, torch.device("cpu")
    scale = build_process(settings.diffusion, cpu).time_scale
    x = scaled(view(data.train.x[:2]).clone())
    labels = data.train.labels
    inputs = (x, torch.zeros(2), *(() if labels is None else (view(labels[:2]).clone(),)))
    try:
        model = build_model(settings, data, scale).eval()
    except ValueError as error:
        raise ValueError(f"trial.model: {error}") from error
    except Exception as error:
        raise ValueError(f"trial.model: {name} can't be built: {told(error)}") from error
    try:
        with torch.no_grad():
            shape = model(*inputs).shape
    except Exception as error:
        raise ValueError(
            f"trial.model: {name} fails on examples of shape {data.shape}: {told(error)}"
        ) from error
    if shape != x.shape:
        raise ValueError(
            f"trial.model: {name} answers shape {tuple(shape[1:])} to examples of shape "
            f"{data.shape}, need the same"
        )


def build_model(config: TrialSettings, data: Data, time_scale: float) -> nn.Module:
    """The network for examples of the data's shape.

    Raises:
        ValueError: the model does not take examples of this shape.
    """
    model: nn.Module = config.model.build(data.shape, data.classes, time_scale)
    return model


def pick_device(name: str) -> torch.device:
    """The device that `name` means on this machine."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def free_memory() -> None:
    """Give back what an ended training held, so that the next one can have it all."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
