"""Validation: the loss on held-out examples, with noise that is the same for every trial."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainable.base.tensors import scaled, view
from trainable.data.parts import Part
from trainable.diffusion.process import Network, Process, loss
from trainable.metrics import QUARTILES
from trainable.parallel.gang import Gang

VALIDATION_SEED = 20_110  # the same noise for every trial and every seed
TEST_SEED = 20_111  # the test part's own noise, another for each seed of a training


def noise_seed(*numbers: int) -> int:
    """The seed of a round of validation noise, apart from those of all other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Validation:
    """Held-out examples with fixed noise at stratified noise levels, a quarter in each quartile.

    Validation decides a search; on the test part, with another seed, the winners are confirmed.

    With more places than examples, examples come again with other noise and levels. The workers of
    a gang take its batches in turn, so its losses are those of one worker to the last bit.
    """

    def __init__(
        self,
        process: Process,
        part: Part,
        places: int,
        batch_size: int,
        device: torch.device,
        seed: int = VALIDATION_SEED,
        gang: Gang | None = None,
        first: int = 0,  # of the examples
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        index = (first + torch.arange(places)) % len(part.x)
        strata = torch.arange(places) / places + torch.rand(places, generator=generator) / places
        noise = torch.randn(places, *part.x.shape[1:], generator=generator)
        order = torch.randperm(places, generator=generator)  # level and example are unrelated
        self.x0 = scaled(view(part.x)[index][order].to(device))
        self.labels = None if part.labels is None else view(part.labels)[index][order]
        self.u, self.noise = strata.to(device), noise.to(device)
        self.process, self.batch_size, self.device = process, batch_size, device
        self.gang = gang or Gang()

    @torch.no_grad()
    def losses(self, network: Network) -> list[float]:
        """The mean loss, and that of each quartile from the lowest noise levels to the highest."""
        losses = torch.zeros(len(self.u), device=self.device)
        starts = range(0, len(self.u), self.batch_size)
        for start in starts[self.gang.rank :: self.gang.size]:
            cut = slice(start, start + self.batch_size)
            losses[cut] = self.each(network, cut)
        by_quartile = self.gang.total(losses).cpu().double().view(QUARTILES, -1).mean(1)
        return [by_quartile.mean().item(), *by_quartile.tolist()]

    def each(self, network: Network, cut: slice) -> Tensor:
        """The loss of each example in a cut of the places, which rise in their noise level."""
        labels = None if self.labels is None else self.labels[cut].to(self.device)
        return loss(self.process, network, self.x0[cut], self.noise[cut], self.u[cut], labels)
