"""What a training step minimizes: the loss of a noise process, or one of the user's own."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from trainable.base.described import described
from trainable.base.shelf import load
from trainable.base.tensors import scaled, view
from trainable.data.batch import Batch
from trainable.data.parts import Part
from trainable.diffusion.process import Network, Process, loss
from trainable.diffusion.validation import VALIDATION_SEED
from trainable.metrics import QUARTILES

VALIDATION_BATCH = 64  # of an own loss: the same in every trial, whatever its batch size


class Objective(Protocol):
    def __call__(self, network: Network, batch: Batch) -> Tensor:
        """The mean loss of a batch, to be minimized."""
        ...


class ProcessObjective:
    """The loss of a noise process, weighted as the process asks for."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        losses = loss(self.process, network, batch.x0, batch.noise, batch.u, batch.labels)
        weight = self.process.weight(batch.u)
        return losses.mean() if weight is None else (weight * losses).mean()


class OwnObjective:
    """A loss of the user's own: `attr(model, batch, generator)`, a scalar.

    `batch` is a tensor of examples, [B, *shape], or a pair of it and their labels; all randomness
    comes from `generator`, which is on the examples' device.

    Raises:
        ValueError: it answers no scalar.
    """

    def __init__(self, target: str, generator: torch.Generator) -> None:
        self.target, self.function, self.generator = target, load(target), generator

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        return self.with_draws(network, batch.x0, batch.labels, self.generator)

    def with_draws(
        self, network: Network, x0: Tensor, labels: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """The loss with the given source of randomness."""
        examples = x0 if labels is None else (x0, labels)
        answer: Tensor = self.function(network, examples, generator)
        if not isinstance(answer, Tensor) or answer.ndim or answer.is_complex():
            raise ValueError(
                f"trial.loss: {self.target} answers {described(answer)}, need a scalar tensor"
            )
        return answer


class OwnValidation:
    """An own loss on fixed held-out batches with a generator of a fixed seed.

    Such a loss has no noise levels that diffsweep knows: each quartile is given the overall value.
    """

    def __init__(
        self,
        objective: OwnObjective,
        part: Part,
        places: int,
        device: torch.device,
        seed: int = VALIDATION_SEED,
        first: int = 0,
    ) -> None:
        self.seed = seed
        index = (first + torch.arange(places)) % len(part.x)
        self.x0 = scaled(view(part.x)[index].to(device))
        self.labels = None if part.labels is None else view(part.labels)[index].to(device)
        self.objective, self.device = objective, device

    @torch.no_grad()
    def losses(self, network: Network) -> list[float]:
        generator = torch.Generator(self.device).manual_seed(self.seed)
        total = 0.0
        for start in range(0, len(self.x0), VALIDATION_BATCH):
            cut = slice(start, start + VALIDATION_BATCH)
            labels = None if self.labels is None else self.labels[cut]
            mean = self.objective.with_draws(network, self.x0[cut], labels, generator)
            total += mean.item() * len(self.x0[cut])
        return [total / len(self.x0)] * (1 + QUARTILES)
