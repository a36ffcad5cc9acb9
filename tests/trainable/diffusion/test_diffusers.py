"""Schedules, targets and samplers against those of diffusers, where it is installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainable.diffusion.config import Diffusion
from trainable.diffusion.process import T, build_process

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
CPU = torch.device("cpu")
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def process(**keys: Any) -> Any:
    return build_process(Diffusion.model_validate(keys), CPU)


def draws(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(n, 1, 4, 4, generator=generator) * 2 - 1, torch.randn(n, 1, 4, 4))


def guess(x: torch.Tensor) -> torch.Tensor:
    """Some network."""
    return 0.3 * x + 0.1 * x.roll(1, -1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_noising_velocity_and_snr(name: str) -> None:
    theirs = diffusers.DDPMScheduler(num_train_timesteps=T, beta_schedule=SCHEDULES[name])
    ours = process(prediction="v", noise_schedule=name, min_snr_gamma=5.0)
    t = torch.arange(0, T, 37)
    u = (t + 0.5) / T
    x0, noise = draws(len(t))
    x, times, velocity = ours.corrupt(x0, noise, u)
    assert torch.equal(times.long(), t)
    assert torch.allclose(x, theirs.add_noise(x0, noise, t), atol=1e-4)
    assert torch.allclose(velocity, theirs.get_velocity(x0, noise, t), atol=1e-4)
    snr = diffusers.training_utils.compute_snr(theirs, t)
    assert torch.allclose(ours.weight(u), snr.clamp(max=5) / (snr + 1), rtol=1e-2)


@pytest.mark.parametrize("prediction,theirs_is", [("eps", "epsilon"), ("v", "v_prediction")])
def test_ddim(prediction: str, theirs_is: str) -> None:
    ours = process(prediction=prediction, noise_schedule="linear")
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=T,
        beta_schedule="linear",
        prediction_type=theirs_is,
        clip_sample=True,
    )
    theirs.set_timesteps(20)  # a step goes from t to t - 50
    x = draws(4)[1]
    for t in (999, 500, 51):
        step = theirs.step(guess(x), t, x, use_clipped_model_output=True)
        x0, eps = ours._split(guess(x), x, t, 1.0)
        assert torch.allclose(x0, step.pred_original_sample, atol=1e-3)
        assert torch.allclose(
            ours.a[t - 50] * x0 + ours.s[t - 50] * eps, step.prev_sample, atol=1e-4
        )


def test_edm_levels_preconditioning_and_euler() -> None:
    ours = process(prediction="edm", solver="euler")
    theirs = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    theirs.set_timesteps(18)
    assert torch.allclose(torch.tensor(ours.sigmas(18)), theirs.sigmas, rtol=1e-4)
    noise = draws(4)[1]
    x = noise * theirs.sigmas[0]
    for t in theirs.timesteps:
        x = theirs.step(guess(theirs.scale_model_input(x, t)), t, x).prev_sample
    assert torch.allclose(ours.sample(lambda x, t: guess(x), noise, 18), x, atol=1e-3)


def test_flow_noising_and_euler() -> None:
    ours = process(prediction="flow")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T)
    x0, noise = draws(4)
    u = torch.tensor([0.1, 0.4, 0.6, 0.9])
    x, t, velocity = ours.corrupt(x0, noise, u)
    level = t.view(-1, 1, 1, 1)
    assert torch.allclose(x, level * noise + (1 - level) * x0)
    assert torch.allclose(velocity, noise - x0)  # as in diffusers' training scripts

    theirs.set_timesteps(sigmas=[1 - step / 10 for step in range(10)])
    for number, time in enumerate(theirs.timesteps):
        assert time == pytest.approx(T * (1 - number / 10), rel=1e-4)
    x = noise
    for time in theirs.timesteps:
        x = theirs.step(guess(x), time, x).prev_sample
    assert torch.allclose(ours.sample(lambda x, t: guess(x), noise, 10), x, atol=1e-4)
