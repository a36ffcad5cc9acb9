"""Gradients of a batch that is taken in parts, by one worker or by several."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import accumulate, groupby
from typing import Any, Protocol

import torch
from torch import Tensor

BUCKET = 25 << 20  # bytes that are summed at once; PyTorch's DistributedDataParallel has as many


class Summing(Protocol):
    """What sums over the workers; a gang does."""

    def begin_sum(self, tensor: Tensor) -> Any: ...
    def wait(self, work: Any) -> None: ...


class Gradients:
    """Of one worker: a backward pass for each part, then the loss of the whole."""

    def __init__(self) -> None:
        self.shares: list[Tensor] = []

    def backward(self, share: Tensor, last: bool) -> None:
        """Add the gradient of a part's share of the loss; `last`: no other follows."""
        share.backward()  # type: ignore[no-untyped-call]
        self.shares.append(share.detach())

    def take(self) -> Tensor:
        """The loss of the whole batch, whose gradient is now in the weights."""
        shares, self.shares = self.shares, []
        return shares[0] if len(shares) == 1 else torch.stack(shares).sum()


class SummedGradients(Gradients):
    """Of several workers: summed over all of them, while the backward pass still goes on.

    Gradients are collected in buckets, from the last weights to the first. A bucket is summed
    when the last part's gradients are in it, and those before it are on their way: the same order
    in every worker. Unlike DistributedDataParallel, it takes models that call themselves twice or
    leave weights out, and an own loss is given the model itself and not a wrapper.
    """

    def __init__(self, gang: Summing, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.gang, self.begun, self.last = gang, False, False
        self.works: list[Any] = []
        self.buckets = [Bucket(part) for part in in_buckets(list(weights)[::-1])]
        for bucket in self.buckets:
            for index, weight in enumerate(bucket.weights):
                hook = partial(self._arrived, bucket, index)
                weight.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def backward(self, share: Tensor, last: bool) -> None:
        if not self.begun:
            for bucket in self.buckets:
                bucket.clear()
        self.begun, self.last = True, last
        self.shares.append(share.detach())
        if last:
            self.works, self.loss = [], torch.stack(self.shares).sum()
            self.loss_work = self.gang.begin_sum(self.loss)
        share.backward()  # type: ignore[no-untyped-call]

    def take(self) -> Tensor:
        for bucket in self.buckets[len(self.works) :]:
            self.works.append(bucket.begin(self.gang))
        for work in (self.loss_work, *self.works):
            self.gang.wait(work)
        for bucket in self.buckets:
            bucket.drop_unused()
        self.shares, self.begun, self.last = [], False, False
        return self.loss

    def _arrived(self, bucket: Bucket, index: int, weight: Tensor) -> None:
        bucket.used.add(index)
        if not self.last:
            return
        bucket.missing.discard(index)
        while len(self.works) < len(self.buckets) and not self.buckets[len(self.works)].missing:
            self.works.append(self.buckets[len(self.works)].begin(self.gang))


class Bucket:
    """Gradients side by side in one tensor, and after them a mark for each that is there."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights
        *starts, end = accumulate((weight.numel() for weight in weights), initial=0)
        like = weights[0]
        self.flat = torch.zeros(end + len(weights), dtype=like.dtype, device=like.device)
        self.marks = self.flat[end:]
        self.grads = [  # laid out as the weights are: channels last, if they are
            self.flat.as_strided(weight.shape, torch.empty_like(weight).stride(), start)
            for weight, start in zip(weights, starts, strict=True)
        ]
        self.used: set[int] = set()
        self.missing: set[int] = set()

    def clear(self) -> None:
        self.flat.zero_()
        self.used, self.missing = set(), set(range(len(self.weights)))
        for weight, grad in zip(self.weights, self.grads, strict=True):
            weight.grad = grad

    def begin(self, gang: Summing) -> Any:
        if len(self.used) == len(self.weights):
            self.marks.fill_(1)
        else:
            there = [index in self.used for index in range(len(self.weights))]
            self.marks.copy_(torch.tensor(there))
        return gang.begin_sum(self.flat)

    def drop_unused(self) -> None:
        """A weight that no worker's part has used has no gradient, as with one worker."""
        for index, weight in enumerate(self.weights):
            if index not in self.used and self.marks[index] == 0:
                weight.grad = None


def in_buckets(weights: list[Tensor]) -> list[list[Tensor]]:
    """Cut a list of weights into buckets of one type each, of about BUCKET bytes."""
    buckets: list[list[Tensor]] = []
    for _, alike in groupby(weights, lambda weight: weight.dtype):
        room = 0
        for weight in alike:
            if room <= 0:
                buckets.append([])
                room = BUCKET
            buckets[-1].append(weight)
            room -= weight.nbytes
    return buckets
