"""Samples drawn part by part, so that memory holds however many are asked for."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from trainable.diffusion.process import Network, Process

AT_ONCE = 128  # samples


def draw(
    process: Process,
    network: Network,
    noise: Tensor,
    labels: Tensor | None,
    steps: int,
    limit: float,
) -> Tensor:
    """A sample for each noise, float32 [count, *shape] on the CPU.

    `labels` [count, ...] go with each, if the network takes any. No number of a sample exceeds
    `limit`.
    """
    parts = []
    for start in range(0, len(noise), AT_ONCE):
        cut, bound = slice(start, start + AT_ONCE), network
        if labels is not None:
            bound = partial(_labelled, network, labels[cut].to(noise.device))
        samples = process.sample(bound, noise[cut], steps, limit)
        parts.append(samples.clamp(-limit, limit).float().cpu())
    return torch.cat(parts)


def _labelled(network: Network, labels: Tensor, x: Tensor, t: Tensor) -> Tensor:
    answer: Tensor = network(x, t, labels)
    return answer
