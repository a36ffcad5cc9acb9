"""The noise process: noise levels, training targets, and sampling, in the papers' symbols.

Every process maps u in [0, 1), the quantile of the noise level, to a noise level: training draws
u uniformly, and validation stratifies it, so that a quartile of u is a quartile of noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from trainable.config import Diffusion

T = 1000  # timesteps of the discrete processes (Ho et al. 2020)
# called network(x, t) or, with labels [B], network(x, t, labels): x [B, *shape], t [B]
Network = Callable[..., Tensor]


class Process(Protocol):
    """A noise process. x0, x, noise: [B, *shape]; u: [B]."""

    time_scale: float  # brings the `t` that the network sees to about 0...1000

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is given, x and t, and what it should answer."""
        ...

    def sample(self, network: Network, noise: Tensor, steps: int) -> Tensor:
        """Turn pure noise into samples, in `steps` steps; labels are bound to the network."""
        ...


def loss(
    process: Process,
    network: Network,
    x0: Tensor,
    noise: Tensor,
    u: Tensor,
    labels: Tensor | None = None,
) -> Tensor:
    """The unweighted squared error of each example, averaged over its shape: [B]."""
    x, t, target = process.corrupt(x0, noise, u)
    answer = network(x, t) if labels is None else network(x, t, labels)
    return (answer.float() - target).square().flatten(1).mean(1)


def alpha_bar(noise_schedule: str) -> Tensor:
    """Share of the signal's variance left after each of the T timesteps: [T], float64."""
    if noise_schedule == "linear":  # Ho et al. 2020, section 4
        return (1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64)).cumprod(0)
    # Nichol & Dhariwal 2021, eq. 17; betas clipped at 0.999
    t = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)).cumprod(0)


class Discrete:
    """T timesteps with eps (Ho et al. 2020), x0, or v = a eps - s x0 (Salimans & Ho 2022)."""

    time_scale = 1.0

    def __init__(self, prediction: str, noise_schedule: str, device: torch.device) -> None:
        self.prediction = prediction
        bar = alpha_bar(noise_schedule)
        self.a = bar.sqrt().float().to(device)  # [T] scale of the signal
        self.s = (1 - bar).sqrt().float().to(device)  # [T] scale of the noise

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = (u * T).long()
        a, s = _like(self.a[t], x0), _like(self.s[t], x0)
        target = {"eps": noise, "x0": x0}.get(self.prediction)
        return a * x0 + s * noise, t.float(), a * noise - s * x0 if target is None else target

    def sample(self, network: Network, noise: Tensor, steps: int) -> Tensor:
        """DDIM with eta = 0 (Song et al. 2021, eq. 12)."""
        x = noise
        times = torch.linspace(T - 1, 0, steps).round().long().tolist()
        for t, following in zip(times, [*times[1:], None], strict=True):
            x0, eps = self._split(network(x, x.new_full(x.shape[:1], t)), x, t)
            x = x0 if following is None else self.a[following] * x0 + self.s[following] * eps
        return x

    def _split(self, answer: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The x0 (within [-1, 1]) and the noise that the network's answer means."""
        a, s = self.a[t], self.s[t]
        if self.prediction == "eps":
            x0 = (x - s * answer) / a
        elif self.prediction == "x0":
            x0 = answer
        else:
            x0 = a * x - s * answer
        x0 = x0.clamp(-1, 1)
        return x0, (x - a * x0) / s


class Edm:
    """Karras et al. 2022 (EDM), table 1: preconditioning, log-normal sigma, Heun's sampler."""

    time_scale = 250.0  # c_noise = log(sigma) / 4 spans about four units
    P_mean, P_std, sigma_data = -1.2, 1.2, 0.5
    sigma_min, sigma_max, rho = 0.002, 80.0, 7.0

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = _like((self.P_mean + self.P_std * _normal_quantile(u)).exp(), x0)
        c_skip, c_out, c_in = self._scalings(sigma)
        y = x0 + sigma * noise
        return c_in * y, sigma.flatten().log() / 4, (x0 - c_skip * y) / c_out

    def sample(self, network: Network, noise: Tensor, steps: int) -> Tensor:
        """Heun's second-order method (algorithm 1, without churn)."""
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigmas = [*((high + ramp * (low - high)) ** self.rho).tolist(), 0.0]
        x: Tensor = noise * sigmas[0]
        for sigma, following in pairwise(sigmas):
            d = (x - self._denoise(network, x, sigma)) / sigma
            moved = x + (following - sigma) * d
            if following:
                d_next = (moved - self._denoise(network, moved, following)) / following
                moved = x + (following - sigma) * (d + d_next) / 2
            x = moved
        return x

    def _scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = sigma.square() + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt()

    def _denoise(self, network: Network, x: Tensor, sigma: float) -> Tensor:
        level = _like(x.new_full(x.shape[:1], sigma), x)
        c_skip, c_out, c_in = self._scalings(level)
        denoised: Tensor = c_skip * x + c_out * network(c_in * x, level.flatten().log() / 4)
        return denoised


class Flow:
    """Flow matching on straight paths (Lipman et al. 2023), logit-normal t (Esser et al. 2024).

    x = (1 - t) x0 + t noise; the network answers the velocity noise - x0.
    """

    time_scale = 1000.0

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = _normal_quantile(u).sigmoid()
        level = _like(t, x0)
        return (1 - level) * x0 + level * noise, t, noise - x0

    def sample(self, network: Network, noise: Tensor, steps: int) -> Tensor:
        """Euler's method from t = 1 to t = 0."""
        x = noise
        for step in range(steps):
            t = x.new_full(x.shape[:1], 1 - step / steps)
            x = x - network(x, t) / steps
        return x


def build_process(config: Diffusion, device: torch.device) -> Process:
    """The process that `config` names."""
    if config.prediction == "edm":
        return Edm()
    if config.prediction == "flow":
        return Flow()
    return Discrete(config.prediction, config.noise_schedule, device)


def _like(level: Tensor, x: Tensor) -> Tensor:
    """A value per example, [B], in a shape that broadcasts with x, [B, *shape]."""
    return level.view(-1, *[1] * (x.ndim - 1))


def _normal_quantile(u: Tensor) -> Tensor:
    quantile: Tensor = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))
    return quantile
