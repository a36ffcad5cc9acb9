"""The stream of training batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainable.base.tensors import scaled, view
from trainable.data.augment import ALL, Augment
from trainable.data.batch import Batch
from trainable.data.parts import Data
from trainable.data.sharded import Reader, Sharded
from trainable.data.shelf import Augmentation

DEVICE_SHARE = 0.25  # of the free part of a trial's share of a GPU that its examples may take


class Batches:
    """The stream of training batches: for one seed, the same in every trial.

    Which example comes at which place depends on the seed and the place alone, so the batch size
    does not change the order; noise and noise levels come from one generator. A worker of a gang
    draws for the whole batch and takes its `part`, so all see the batches of one worker.

    The examples lie on the device where they fit. Elsewhere they stay in memory, shared with the
    other trials of the machine, and each batch is copied from pinned memory without a wait. Those
    in shards stay in their files, and each batch is read while the one before is trained on.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        seed: int,
        device: torch.device,
        part: slice = ALL,
        augment: Augmentation | None = None,
    ) -> None:
        x, labels = data.train
        self.home = device if fits(data, device) else torch.device("cpu")
        self.x = source(x, self.home)
        self.labels = None if labels is None else source(labels, self.home)
        self.sharded = x if isinstance(x, Sharded) else None
        self.shape, self.classes, self.examples = data.shape, data.classes, len(x)
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.part = part
        self.generator = torch.Generator(device).manual_seed(seed)
        self.augment: Augment | None = None
        if augment is not None:
            self.augment = Augment(augment, data.shape, seed, device)
        self._orders: dict[int, Tensor] = {}  # epoch -> permutation

    def draw(self, place: int) -> Batch:
        """This worker's part of the batch that begins at `place`."""
        whole = self.batch_size
        x0 = scaled(self._rows(self.x, place))
        if self.augment is not None:
            x0 = self.augment(x0, self.part, whole)
        given: Any = {"generator": self.generator, "device": self.device}
        noise = torch.randn((whole, *x0.shape[1:]), **given)[self.part]
        u = torch.rand(whole, **given)[self.part]
        labels = None if self.labels is None else self._rows(self.labels, place)
        return Batch(x0, labels, noise, u)

    def _rows(self, of: Tensor | Reader, place: int) -> Tensor:
        """This worker's part of the rows from `place` on, on the device."""
        index = self._indices(place)[self.part]
        if isinstance(of, Reader):
            batch = of.read(index, self._indices(place + self.batch_size)[self.part])
        else:
            batch = of[index]
        if self.device.type == "cuda" and batch.device.type == "cpu":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)

    def _indices(self, place: int) -> Tensor:
        n, parts, missing = self.examples, [], self.batch_size
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
            if self.sharded is not None:
                order = self.sharded.order(generator)
            else:
                order = torch.randperm(self.examples, generator=generator)
                if self.home.type == "cuda":
                    order = order.pin_memory().to(self.home, non_blocking=True)
            self._orders = {epoch: order} | {
                k: v for k, v in self._orders.items() if k == epoch - 1
            }
        return self._orders[epoch]


def source(x: np.ndarray | Sharded, home: torch.device) -> Tensor | Reader:
    """What batches are taken from."""
    return Reader(x) if isinstance(x, Sharded) else view(x).to(home)


def fits(data: Data, device: torch.device) -> bool:
    """Whether the examples may lie on the device; the CPU and MPS share the memory they are in."""
    x, labels = data.train
    if isinstance(x, Sharded):
        return False
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    mine = min(free, total * torch.cuda.get_per_process_memory_fraction(device))
    return x.nbytes + (0 if labels is None else labels.nbytes) <= DEVICE_SHARE * mine
