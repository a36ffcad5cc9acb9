"""The training of one diffusion model: the plain loop, without Ray. Read it top to bottom."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from trainable.base.device import PeakMemory, pick_device
from trainable.config import TrialConfig
from trainable.data.batch import Batch
from trainable.data.batches import Batches
from trainable.data.loading import split_again
from trainable.data.parts import Data
from trainable.diffusion.objective import Objective, OwnObjective, OwnValidation, ProcessObjective
from trainable.diffusion.process import Network, build_process
from trainable.diffusion.validation import TEST_SEED, VALIDATION_SEED, Validation, noise_seed
from trainable.models.build import build_model, two_examples
from trainable.models.finetune import prepare
from trainable.optimizers.build import build_optimizer, edge_layers, evaluated, has_modes
from trainable.optimizers.clipping import Clipping
from trainable.optimizers.divergence import DivergenceWatch
from trainable.optimizers.ema import Emas, is_due
from trainable.optimizers.lr_schedules import lr_factor
from trainable.optimizers.stability import StepLog, update_ratio
from trainable.parallel.gang import Gang


class TrainState:
    """All that one training holds: what it was told, and what it has become.

    In a gang, each worker holds it all, and what they hold is equal.
    """

    def __init__(
        self, config: TrialConfig, data: Data, test: bool = False, gang: Gang | None = None
    ) -> None:
        if config.split is not None:
            data = split_again(data, config.dataset, config.split)
        self.config, self.data = config, data
        self.gang = gang or Gang()
        self.device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)  # initial weights, dropout
        self.process = build_process(config.diffusion, self.device)
        self.model = build_model(config.model, data, self.process.time_scale)
        prepare(self.model, config.init, config.freeze, config.adapters)
        self.model.to(self.device)
        self.gang.agree([*self.model.parameters(), *self.model.buffers()])
        self.trained = {n: w for n, w in self.model.named_parameters() if w.requires_grad}
        inputs = [part.to(self.device) for part in two_examples(data)]
        self.optimizer = build_optimizer(config.optimizer, self.model, inputs, config.steps)
        # compiled alone for training; the rest calls the model with other weights
        self.forward: Network = torch.compile(self.model) if config.compile else self.model
        self.modes = has_modes(self.optimizer)
        if self.modes:
            self.optimizer.train()  # type: ignore[attr-defined]
        self.emas = Emas(config.ema, self.model)
        self.limit = data.limit
        part = self.gang.part(config.batch_size)
        stream = config.batch_size, config.seed, self.device, part, config.augment
        self.batches = Batches(data, *stream)
        self.objective = build_objective(self)
        self.validation = held_out(self)
        self.test = held_out(self, test=True) if test else None  # changes no training
        output = edge_layers(self.model, inputs)[1].parameters() if config.clip_agc else ()
        self.clip = Clipping(
            self.trained.values(), config.clip_norm, config.clip_value, config.clip_agc, output
        )
        self.gradients = self.gang.gradients(self.trained.values())
        self.step = 0
        self.diverged_at: int | None = None  # the step whose gradient was not finite
        self.log = StepLog(config.report_every, self.device)
        self.update_ratio: Tensor | None = None  # of the last step before a report
        self.watch = DivergenceWatch(self.device)
        self.memory = PeakMemory(self.device)
        self.seconds, self.timed_steps = 0.0, 0  # spent in training since the last report

    @property
    def samples(self) -> int:
        """Examples seen: the clock of a trial."""
        return self.step * self.config.batch_size

    def evaluated(self) -> list[Tensor]:
        """The trained weights as they count: for most optimizers, as they are."""
        weights: list[Tensor] = list(self.trained.values())
        return evaluated(self.optimizer, weights) if self.modes else weights


def train_until(state: TrainState, samples: int) -> None:
    """Train until `samples` examples have been seen, or until the training diverges."""
    config, optimizer = state.config, state.optimizer
    began, first_step = time.perf_counter(), state.step
    state.model.train()
    while state.samples < samples and state.diverged_at is None:
        mean_loss = backward(state, state.batches.draw(state.samples))
        grad_norm, clipped = state.clip()
        if state.watch.diverged(grad_norm, optimizer):
            diverge(state)
            break
        set_lr(optimizer, current_lr(config, state.step))
        last = state.samples + config.batch_size >= samples
        before = [weight.detach().clone() for weight in state.trained.values()] if last else []
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if is_due(state.step):
            state.emas.update(state.step, state.evaluated())
        state.log.add(mean_loss, grad_norm, clipped)
        if last:
            state.update_ratio = update_ratio(before, list(state.trained.values()))
    if state.watch.flush():
        diverge(state)
    state.gang.average(state.model.buffers())
    state.seconds += time.perf_counter() - began
    state.timed_steps += state.step - first_step


def backward(state: TrainState, batch: Batch) -> Tensor:
    """Leave the gradient of the mean loss in the weights, and return the loss.

    A batch that does not fit is taken in micro-batches, and one of a gang by all its workers; the
    gradient is the same up to rounding.
    """
    config = state.config
    parts = batch.split(config.micro_batch or len(batch.x0))
    with state.gang.apart(config.seed, state.step):
        for part in parts:
            with autocast(state):
                share = state.objective(state.forward, part)
            if len(part.x0) < config.batch_size:
                share = share * (len(part.x0) / config.batch_size)
            state.gradients.backward(share, last=part is parts[-1])
    return state.gradients.take()


def diverge(state: TrainState) -> None:
    """End at the step whose gradient was not finite. Known a step late, it is taken back."""
    if state.watch.late and state.diverged_at is None:
        state.step -= 1
        state.log.count -= 1
    state.diverged_at = state.step


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


HeldOut = Validation | OwnValidation


def build_objective(state: TrainState) -> Objective:
    """What the training minimizes."""
    if (loss := state.config.loss) is not None:
        return OwnObjective(loss, state.gang.own(state.batches.generator))
    return ProcessObjective(state.process)


def held_out(state: TrainState, test: bool = False, turn: int = 0) -> HeldOut:
    """How the training is validated, or tested: on `turn` 0 at each report.

    At the end more turns follow, each with the next examples and noise of its own. That of the
    test part is another for each seed, so that no seed repeats the luck of it.
    """
    config, data = state.config, state.data
    part = data.test if test else data.validation
    places = config.validation_examples or len(data.validation.x) // 4 * 4
    seed = TEST_SEED if test else VALIDATION_SEED
    if test and config.final_examples:
        seed = noise_seed(seed, config.seed, turn)
    elif turn:
        seed = noise_seed(seed, turn)
    shared: dict[str, Any] = {
        "seed": seed,
        "first": turn * places,
        "places": places,
        "device": state.device,
    }
    if isinstance(state.objective, OwnObjective):
        return OwnValidation(state.objective, part, **shared)
    size, gang = config.batch_size, state.gang
    return Validation(state.process, part, batch_size=size, gang=gang, **shared)


def final_turns(config: TrialConfig) -> int:
    """In how many turns a finished training is measured, each as large as a validation."""
    return max(1, (config.final_examples or 0) // (config.validation_examples or 1))
