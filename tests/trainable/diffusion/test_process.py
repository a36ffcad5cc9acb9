"""The noise processes: their targets, their weights and their samplers, by identities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support.specs import make_config
from torch import Tensor

from trainable.data.loading import load_data
from trainable.diffusion.config import Diffusion
from trainable.diffusion.process import (
    Discrete,
    Edm,
    Flow,
    Network,
    Process,
    alpha_bar,
    build_process,
    loss,
    solve,
)
from trainable.report import report, sample
from trainable.train import TrainState, train_until

CPU = torch.device("cpu")
KINDS = ("eps", "v", "x0", "edm", "flow")


def process(prediction: str, **keys: Any) -> Any:
    return build_process(Diffusion.model_validate({"prediction": prediction, **keys}), CPU)


def draws(n: int = 64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(n, 1, 4, 4, generator=generator) * 2 - 1
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    return x0, torch.randn(x0.shape, generator=generator), u


def like(level: Tensor) -> Tensor:
    return level.view(-1, 1, 1, 1)


def recovered(p: Any, x: Tensor, t: Tensor, answer: Tensor) -> Tensor:
    """x0 from what the network is given and what it should answer."""
    if isinstance(p, Edm):
        sigma = like((4 * t).exp())
        c_skip, c_out, c_in = p._scalings(sigma)
        return c_skip * (x / c_in) + c_out * answer
    if isinstance(p, Flow):
        return x - like(t) * answer
    a, s = like(p.a[t.long()]), like(p.s[t.long()])
    return {"eps": (x - s * answer) / a, "v": a * x - s * answer, "x0": answer}[p.prediction]


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_gives_x0_back(kind: str) -> None:
    p = process(kind)
    x0, noise, u = draws()
    u = u[:-4] if kind == "eps" else u  # at the last levels no signal is left to divide by
    x0, noise = x0[: len(u)], noise[: len(u)]
    x, t, target = p.corrupt(x0, noise, u)
    assert torch.allclose(recovered(p, x, t, target), x0, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_levels_rise_with_u_and_t_is_within_its_scale(kind: str) -> None:
    p = process(kind)
    x0, noise, u = draws()
    t = p.corrupt(x0, noise, u)[1]
    assert (t.diff() >= 0).all() and 300 < (t.max() - t.min()) * p.time_scale < 1500


@pytest.mark.parametrize("kind", ("edm", "v", "flow"))
def test_inputs_and_targets_have_the_variance_that_the_papers_promise(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sigma_data = 0.5 if kind == "edm" else 1.0
    x0 = torch.randn(100_000, 1, generator=generator) * sigma_data
    noise, u = (
        torch.randn(100_000, 1, generator=generator),
        torch.rand(100_000, generator=generator),
    )
    x, _, target = process(kind).corrupt(x0, noise, u)
    assert target.var() == pytest.approx(2.0 if kind == "flow" else 1.0, rel=0.02)
    assert kind == "flow" or x.var() == pytest.approx(1.0, rel=0.02)


def test_the_alphas_of_both_schedules_fall_from_one_to_nearly_zero() -> None:
    for name in ("linear", "cosine"):
        bar = alpha_bar(name)
        assert (bar.diff() < 0).all() and bar[0] > 0.9999 - 1e-4 and 0 < bar[-1] < 1e-4


def perfect(p: Any, x0: Tensor) -> Network:
    """A network that knows the one image that there is."""

    def answer(x: Tensor, t: Tensor) -> Tensor:
        level = like(t)
        if isinstance(p, Edm):
            c_skip, c_out, c_in = p._scalings((4 * level).exp())
            return (x0 - c_skip * (x / c_in)) / c_out
        if isinstance(p, Flow):
            return (x - x0) / level
        a, s = like(p.a[t.long()]), like(p.s[t.long()])
        noise = (x - a * x0) / s
        return {"eps": noise, "v": a * noise - s * x0, "x0": x0.expand_as(x)}[p.prediction]

    return answer


@pytest.mark.parametrize(
    "kind,solver",
    [
        *[("eps", None), ("v", None), ("x0", None)],
        *[("edm", "heun"), ("edm", "euler"), ("flow", "euler"), ("flow", "heun")],
    ],
)
@pytest.mark.parametrize("steps", [2, 7, 40])
def test_a_perfect_network_is_sampled_exactly(kind: str, solver: str | None, steps: int) -> None:
    p: Process = process(kind, solver=solver)
    x0, noise, _ = draws(4)
    samples = p.sample(perfect(p, x0), noise, steps)
    assert torch.allclose(samples, x0, atol=2e-3)


def error(heun: bool, steps: int) -> float:
    """Of dx / dt = x from 0 to 1, where the answer is e, and then an Euler step of no length."""
    times = [step / steps for step in range(steps + 1)]
    answer = solve(lambda x, _: x, torch.ones(1, dtype=torch.float64), [*times, 1 + 1e-12], heun)
    return abs(answer.item() - math.e)


@pytest.mark.parametrize("heun,order", [(False, 1), (True, 2)])
def test_half_the_step_means_half_the_error_for_euler_and_a_quarter_for_heun(
    heun: bool, order: int
) -> None:
    assert error(heun, 20) / error(heun, 40) == pytest.approx(2**order, rel=0.06)


def test_the_last_cosine_step_tells_nothing_and_breaks_nothing() -> None:
    """There a = 5e-5: an eps that is 1 % off would mean an x0 that is 200 off."""
    p: Discrete = process("eps")
    x0, noise, _ = draws(16)
    right = perfect(p, x0)

    def slightly_wrong(x: Tensor, t: Tensor) -> Tensor:
        return torch.as_tensor(right(x, t) * 1.01)

    first, eps = p._split(slightly_wrong(noise, torch.full((16,), 999.0)), noise, 999, 1.0)
    assert first.abs().max() <= 1 and torch.allclose(eps, noise, atol=1e-3)
    assert (p.sample(slightly_wrong, noise, 40) - x0).abs().mean() < 0.1


def test_samples_of_other_data_than_images_reach_beyond_one() -> None:
    p: Process = process("eps")
    x0, noise, _ = draws(4)
    far = 3 * x0
    assert torch.allclose(p.sample(perfect(p, far), noise, 40, limit=3.0), far, atol=1e-2)
    assert p.sample(perfect(p, far), noise, 40).abs().max() <= 1


@pytest.mark.parametrize("kind", ("eps", "v", "x0", "flow"))
def test_min_snr_weights_the_error_of_x0_alike_in_every_prediction(kind: str) -> None:
    """min(SNR, gamma) |x0' - x0|^2 whatever the network answers (Hang et al. 2023, eq. 9)."""
    p = process(kind, min_snr_gamma=5.0)
    x0, noise, u = draws()
    u = 0.02 + 0.9 * u  # away from where the division loses all digits
    x, t, target = p.corrupt(x0, noise, u)
    off = target + 0.01
    error = (off - target).square().flatten(1).mean(1)
    error_of_x0 = (recovered(p, x, t, off) - x0).square().flatten(1).mean(1)
    signal, rest = (1 - t, t) if kind == "flow" else (p.a[t.long()], p.s[t.long()])
    snr = (signal / rest).square()
    assert torch.allclose(p.weight(u) * error, snr.clamp(max=5) * error_of_x0, rtol=2e-2)


def test_min_snr_weights_training_but_not_validation() -> None:
    data = load_data(make_config().dataset)
    plain, weighted = (
        TrainState(make_config(diffusion={"prediction": "v", "min_snr_gamma": gamma}), data)
        for gamma in (None, 1.0)
    )
    assert report(plain)["val_loss"] == report(weighted)["val_loss"]
    losses = []
    for state in (plain, weighted):
        train_until(state, state.config.batch_size)
        losses.append(report(state)["train_loss"])
    assert losses[1] < 0.9 * losses[0]


def test_levels_follow_the_keys_of_the_process() -> None:
    x0, noise, u = draws(4096)
    edm = process("edm", P_mean=0.0, P_std=0.5, sigma_data=2.0)
    log_sigma = 4 * edm.corrupt(x0, noise, u)[1]
    assert log_sigma.mean() == pytest.approx(0, abs=0.01)
    assert log_sigma.std() == pytest.approx(0.5, abs=0.01)
    flow = process("flow", logit_mean=1.0, logit_std=0.5)
    logit = flow.corrupt(x0, noise, u)[1].logit()
    assert logit.mean() == pytest.approx(1, abs=0.01)
    assert logit.std() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "keys,fault",
    [
        ({"prediction": "flow", "noise_schedule": "linear"}, "noise_schedule is not for"),
        ({"prediction": "v", "sigma_data": 1.0}, "sigma_data is not for prediction v"),
        ({"prediction": "edm", "min_snr_gamma": 5}, "min_snr_gamma is not for prediction edm"),
        ({"prediction": "eps", "solver": "heun"}, "solver heun is not for prediction eps"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Diffusion.model_validate(keys)


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_trains_and_samples(kind: str) -> None:
    config = make_config(diffusion={"prediction": kind}, steps=40, report_every=40)
    state = TrainState(config, load_data(config.dataset))
    before = report(state)["val_loss"]
    train_until(state, config.samples)
    assert report(state)["val_loss"] < before
    assert torch.isfinite(sample(state, "raw", 4, steps=4)).all()


def test_the_loss_is_the_mean_square_of_each_example() -> None:
    x0, noise, u = draws(8)
    zero = loss(process("eps"), lambda x, t: torch.zeros_like(x), x0, noise, u)
    assert torch.allclose(zero, noise.square().flatten(1).mean(1))
