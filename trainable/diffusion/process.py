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

from trainable.diffusion.config import Diffusion

T = 1000  # timesteps of the discrete processes (Ho et al. 2020)
# called network(x, t) or, with labels [B], network(x, t, labels): x [B, *shape], t [B]
Network = Callable[..., Tensor]


class Process(Protocol):
    """A noise process. x0, x, noise: [B, *shape]; u: [B]."""

    time_scale: float  # brings the `t` that the network sees to about 0...1000

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is given, x and t, and what it should answer."""
        ...

    def weight(self, u: Tensor) -> Tensor | None:
        """Weights of the training examples' losses, [B]; None where all are alike."""
        ...

    def sample(self, network: Network, noise: Tensor, steps: int, limit: float = 1) -> Tensor:
        """Turn pure noise into samples, in `steps` steps; labels are bound to the network.

        No example exceeds `limit` in absolute value: 1 for images, what it is for other data.
        """
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

    def __init__(self, config: Diffusion, device: torch.device) -> None:
        self.prediction, self.gamma = config.prediction, config.min_snr_gamma
        bar = alpha_bar(config.noise_schedule)
        self.a = bar.sqrt().float().to(device)  # [T] scale of the signal
        self.s = (1 - bar).sqrt().float().to(device)  # [T] scale of the noise

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = (u * T).long()
        a, s = _like(self.a[t], x0), _like(self.s[t], x0)
        target = {"eps": noise, "x0": x0}.get(self.prediction)
        return a * x0 + s * noise, t.float(), a * noise - s * x0 if target is None else target

    def weight(self, u: Tensor) -> Tensor | None:
        """min(SNR, gamma), of the error of x0, in terms of what is predicted.

        Hang et al. 2023, section 3.4: divided by SNR for eps and by SNR + 1 for v.
        """
        if self.gamma is None:
            return None
        t = (u * T).long()
        snr = (self.a[t] / self.s[t]).square()
        weight = snr.clamp(max=self.gamma)
        return weight / {"eps": snr, "v": snr + 1}.get(self.prediction, torch.ones_like(snr))

    def sample(self, network: Network, noise: Tensor, steps: int, limit: float = 1) -> Tensor:
        """DDIM with eta = 0 (Song et al. 2021, eq. 12)."""
        x = noise
        times = torch.linspace(T - 1, 0, steps).round().long().tolist()
        for t, following in zip(times, [*times[1:], None], strict=True):
            x0, eps = self._split(network(x, x.new_full(x.shape[:1], t)), x, t, limit)
            x = x0 if following is None else self.a[following] * x0 + self.s[following] * eps
        return x

    def _split(self, answer: Tensor, x: Tensor, t: int, limit: float) -> tuple[Tensor, Tensor]:
        """The x0 (within the limit) and the noise that the network's answer means.

        At t = T - 1 the cosine schedule leaves a = 5e-5 of the signal. An answer for eps then says
        nothing of x0, which the limit holds; and the noise is taken from that x0, so it is x.
        """
        a, s = self.a[t], self.s[t]
        if self.prediction == "eps":
            x0 = (x - s * answer) / a
        elif self.prediction == "x0":
            x0 = answer
        else:
            x0 = a * x - s * answer
        x0 = x0.clamp(-limit, limit)
        return x0, (x - a * x0) / s


class Edm:
    """Karras et al. 2022 (EDM), table 1: preconditioning, log-normal sigma, Heun's sampler."""

    time_scale = 250.0  # c_noise = ln(sigma) / 4 spans 2.6 units from sigma_min to sigma_max
    sigma_min, sigma_max, rho = 0.002, 80.0, 7.0

    def __init__(self, config: Diffusion) -> None:
        self.P_mean, self.P_std, self.sigma_data = config.P_mean, config.P_std, config.sigma_data
        self.heun = config.solver != "euler"

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = _like((self.P_mean + self.P_std * _normal_quantile(u)).exp(), x0)
        c_skip, c_out, c_in = self._scalings(sigma)
        y = x0 + sigma * noise
        return c_in * y, sigma.flatten().log() / 4, (x0 - c_skip * y) / c_out

    def weight(self, u: Tensor) -> Tensor | None:
        """None: the preconditioned error is EDM's weighted one, lambda = 1 / c_out^2."""
        return None

    def sample(self, network: Network, noise: Tensor, steps: int, limit: float = 1) -> Tensor:
        """The probability flow, dx / dsigma = (x - D(x)) / sigma, without churn (algorithm 1)."""

        def slope(x: Tensor, sigma: float) -> Tensor:
            return (x - self.denoise(network, x, sigma)) / sigma

        return solve(slope, noise * self.sigma_max, self.sigmas(steps), self.heun)

    def sigmas(self, steps: int) -> list[float]:
        """Noise levels of the sampler, from sigma_max down to 0 (eq. 5)."""
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return [*((high + ramp * (low - high)) ** self.rho).tolist(), 0.0]

    def denoise(self, network: Network, x: Tensor, sigma: float) -> Tensor:
        """The x0 that the network sees in x (eq. 7)."""
        level = _like(x.new_full(x.shape[:1], sigma), x)
        c_skip, c_out, c_in = self._scalings(level)
        denoised: Tensor = c_skip * x + c_out * network(c_in * x, level.flatten().log() / 4)
        return denoised

    def _scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = sigma.square() + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt()


class Flow:
    """Flow matching on straight paths (Lipman et al. 2023), logit-normal t (Esser et al. 2024).

    x = (1 - t) x0 + t noise; the network answers the velocity noise - x0.
    """

    time_scale = 1000.0

    def __init__(self, config: Diffusion) -> None:
        self.logit_mean, self.logit_std = config.logit_mean, config.logit_std
        self.gamma, self.heun = config.min_snr_gamma, config.solver == "heun"

    def corrupt(self, x0: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = self._level(u)
        level = _like(t, x0)
        return (1 - level) * x0 + level * noise, t, noise - x0

    def weight(self, u: Tensor) -> Tensor | None:
        """min(SNR, gamma) t^2: an error of the velocity is t times one of x0."""
        if self.gamma is None:
            return None
        t = self._level(u)
        return ((1 - t) / t).square().clamp(max=self.gamma) * t.square()

    def sample(self, network: Network, noise: Tensor, steps: int, limit: float = 1) -> Tensor:
        """Along the velocity from t = 1 to t = 0, in equal steps."""

        def slope(x: Tensor, t: float) -> Tensor:
            velocity: Tensor = network(x, x.new_full(x.shape[:1], t))
            return velocity

        return solve(slope, noise, [1 - step / steps for step in range(steps + 1)], self.heun)

    def _level(self, u: Tensor) -> Tensor:
        return (self.logit_mean + self.logit_std * _normal_quantile(u)).sigmoid()


def solve(
    slope: Callable[[Tensor, float], Tensor], x: Tensor, times: list[float], heun: bool
) -> Tensor:
    """Follow dx / dt = slope(x, t) through `times`, by Euler's method or Heun's of second order.

    The last step is Euler's, since a slope may not exist where it ends (Karras et al. 2022).
    """
    for t, following in pairwise(times):
        d = slope(x, t)
        moved = x + (following - t) * d
        if heun and following != times[-1]:
            moved = x + (following - t) * (d + slope(moved, following)) / 2
        x = moved
    return x


def build_process(config: Diffusion, device: torch.device) -> Process:
    """The process that `config` names."""
    if config.prediction == "edm":
        return Edm(config)
    if config.prediction == "flow":
        return Flow(config)
    return Discrete(config, device)


def _like(level: Tensor, x: Tensor) -> Tensor:
    """A value per example, [B], in a shape that broadcasts with x, [B, *shape]."""
    return level.view(-1, *[1] * (x.ndim - 1))


def _normal_quantile(u: Tensor) -> Tensor:
    quantile: Tensor = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))
    return quantile
