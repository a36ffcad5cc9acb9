"""The stream of training batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainable.augment import ALL, Augment
from trainable.config import TrialConfig
from trainable.datasets import Data
from trainable.objective import Batch
from trainable.tensors import scaled, view

DEVICE_SHARE = 0.25  # of a GPU's free memory that the training examples may take


class Batches:
    """The stream of training batches: for one seed, the same in every trial.

    Which example comes at which place depends on the seed and the place alone, so the batch size
    does not change the order; noise and noise levels come from one generator. A worker of a gang
    draws for the whole batch and takes its `part`, so all see the batches of one worker.

    The examples lie on the device where they fit. Elsewhere they stay in memory, shared with the
    other trials of the machine, and each batch is copied from pinned memory without a wait.
    """

    def __init__(
        self, data: Data, config: TrialConfig, device: torch.device, part: slice = ALL
    ) -> None:
        x, labels = view(data.train.x), data.train.labels
        self.home = device if fits(x, device) else torch.device("cpu")
        self.x = x.to(self.home)
        self.labels = None if labels is None else view(labels).to(self.home)
        self.shape, self.classes = data.shape, data.classes
        self.batch_size, self.seed, self.device = config.batch_size, config.seed, device
        self.part = part
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.augment = None
        if config.augment is not None:
            self.augment = Augment(config.augment, data.shape, config.seed, device)
        self._orders: dict[int, Tensor] = {}  # epoch -> permutation

    def draw(self, place: int) -> Batch:
        """This worker's part of the batch that begins at `place`."""
        index, whole = self._indices(place)[self.part], self.batch_size
        x0 = scaled(self._moved(self.x[index]))
        if self.augment is not None:
            x0 = self.augment(x0, self.part, whole)
        given: Any = {"generator": self.generator, "device": self.device}
        noise = torch.randn((whole, *x0.shape[1:]), **given)[self.part]
        u = torch.rand(whole, **given)[self.part]
        labels = None if self.labels is None else self._moved(self.labels[index])
        return Batch(x0, labels, noise, u)

    def _moved(self, batch: Tensor) -> Tensor:
        """A batch on the device."""
        if self.device.type == "cuda" and batch.device.type == "cpu":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)

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
            # torch uses no more than 32 bits of a seed
            seed = np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(seed))
            order = torch.randperm(len(self.x), generator=generator).to(self.home)
            self._orders = {epoch: order}
        return self._orders[epoch]


def fits(x: Tensor, device: torch.device) -> bool:
    """Whether the examples may lie on the device; the CPU and MPS share the memory they are in."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return x.nbytes <= DEVICE_SHARE * free
