"""A gang: the workers that train one trial together, each on its part of every batch.

Each worker holds the whole training and does the same with it. What differs is summed: gradients
and losses of a batch's parts, losses of the validation's batches. The sums are equal to the last
bit everywhere, so weights, optimizer states, averages and clipping stay equal without being sent.
Plain torch.distributed, without Ray.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from trainable.parallel.gradients import Gradients, SummedGradients

dist: Any = torch.distributed  # what is used of it is compiled, and has no types
# seconds that a worker waits for the others: the longest that they may differ in one step, in
# which each may have to compile the model
PATIENCE = 600.0


class GangBroken(Exception):
    """Another worker of the gang is gone, or has not answered for too long."""


class Gang:
    """A gang of one, which has nothing to share."""

    rank, size = 0, 1

    def leave(self) -> None:
        """Hang up: workers that wait for this one are told so."""

    def part(self, examples: int) -> slice:
        """This worker's of so many examples; parts differ by one at most."""
        return slice(*(examples * rank // self.size for rank in (self.rank, self.rank + 1)))

    def same(self, step: int) -> bool:
        """Whether all workers are at this step."""
        return True

    def gradients(self, weights: Iterable[Tensor]) -> Gradients:
        """What takes the gradients of these weights."""
        return Gradients()

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give all workers the first one's values, in place."""

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all workers, in place."""
        return tensor

    def average(self, buffers: Iterable[Tensor]) -> None:
        """Give all workers the mean of what each has, in place: of floats alone."""

    def own(self, generator: torch.Generator) -> torch.Generator:
        """Where a loss of the user's own draws from, in place of the one for all."""
        return generator

    def apart(self, seed: int, step: int) -> AbstractContextManager[None]:
        """Inside, draws from torch's generators and from `own` are this worker's own."""
        return nullcontext()


class Workers(Gang):
    """A gang of several, as the worker of this rank sees it.

    Args:
        store: where they meet; see `meet` and `find`.
        host: this node's address, on which the others reach it. NCCL picks its own, but on
            loopback it keeps to that.

    Raises:
        GangBroken: from all that waits for others.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        device: torch.device,
        host: str,
        patience: float = PATIENCE,
    ) -> None:
        self.rank, self.size, self.device = rank, size, device
        self.draws = torch.Generator(device)
        timeout, group = timedelta(seconds=patience), dist.PrefixStore("gang", store)
        if device.type == "cuda":
            if host.startswith("127."):
                os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = timeout
            self.group = dist.ProcessGroupNCCL(group, rank, size, options)
        else:
            # init_process_group would have it listen on whatever the machine's name means
            options = dist.ProcessGroupGloo._Options()
            options._devices = [dist.ProcessGroupGloo.create_device(hostname=host)]
            options._timeout = timeout
            self.group = dist.ProcessGroupGloo(group, rank, size, options)

    def leave(self) -> None:
        if self.device.type != "cuda":  # NCCL would wait for what is under way, and never hang up
            self.group = None

    def begin_sum(self, tensor: Tensor) -> Any:
        """Begin to sum a tensor over all workers in place; `wait` for what is returned."""
        return self._call("allreduce", [tensor])

    def wait(self, work: Any) -> None:
        try:
            work.wait()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise GangBroken(str(error)) from error

    def gradients(self, weights: Iterable[Tensor]) -> Gradients:
        return SummedGradients(self, weights)

    def same(self, step: int) -> bool:
        numbers = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        numbers[self.rank] = step
        return bool((self.total(numbers) == step).all())

    @torch.no_grad()
    def agree(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:  # as bytes: gloo knows neither bool nor every float
            content = tensor.detach().flatten().clone()
            self.wait(self._call("broadcast", content.view(torch.uint8), 0))
            tensor.copy_(content.view(tensor.shape))

    def total(self, tensor: Tensor) -> Tensor:
        self.wait(self.begin_sum(tensor))
        return tensor

    @torch.no_grad()
    def average(self, buffers: Iterable[Tensor]) -> None:
        floats = [buffer for buffer in buffers if buffer.is_floating_point()]
        for buffer in floats:  # in double precision, equal ones stay as they are
            buffer.copy_(self.total(buffer.double().contiguous()) / self.size)

    def own(self, generator: torch.Generator) -> torch.Generator:
        return self.draws

    @contextmanager
    def apart(self, seed: int, step: int) -> Iterator[None]:
        """Seeded by the trial's seed, the step and the rank: a resumed training draws the same.

        Dropout in two workers would otherwise drop the same units.
        """
        shared = [torch.default_generator]
        if self.device.type == "cuda":
            shared.append(torch.cuda.default_generators[self.device.index or 0])
        before = [generator.get_state() for generator in shared]
        drawn = int(np.random.SeedSequence((seed, step, self.rank)).generate_state(1)[0])
        for generator in (*shared, self.draws):
            generator.manual_seed(drawn)
        try:
            yield
        finally:
            for generator, state in zip(shared, before, strict=True):
                generator.set_state(state)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.group, name)(*arguments)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise GangBroken(str(error)) from error


def meet(host: str, size: int) -> tuple[Any, int]:
    """Open a store on this address alone, for the first worker; and the port that it got."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family)
    port: int = server.getsockname()[1]
    store = dist.TCPStore(
        host,
        port,
        size,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=server.detach(),
        timeout=timedelta(seconds=PATIENCE),
    )
    return store, port


def find(host: str, port: int, size: int) -> Any:
    """The store that the first worker opened."""
    return dist.TCPStore(host, port, size, timeout=timedelta(seconds=PATIENCE))
