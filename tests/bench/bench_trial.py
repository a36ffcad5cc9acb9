"""How fast a trial trains: samples per second of train_until against hand-written loops.

    python tests/bench/bench_trial.py [--rounds 7] [--seconds 2] [--out result.json]

Against (a) a bare PyTorch loop of the same model, batch and optimizer, without clipping, averages
or anything measured; and (b), where diffusers is installed, its UNet2DModel of about as many
weights with DDPMScheduler and AdamW, as in its training example. All in one process, taking turns;
what counts is the ratio within a round, and its median over the rounds. On a CPU one thread is
used, and its own time counted, so that other work on the machine disturbs little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from trainable.base.device import pick_device
from trainable.config import TrialConfig
from trainable.data.parts import Data, Part
from trainable.diffusion.process import T, alpha_bar
from trainable.report import insight
from trainable.train import TrainState, train_until

Steps = Callable[[int], None]  # trains so many steps
# shape, batch, channels and multipliers of the U-Net
SETUPS: list[tuple[tuple[int, ...], int, int, tuple[int, ...]]] = [
    ((1, 8, 8), 64, 32, (1, 2)),
    ((1, 28, 28), 32, 32, (1, 2, 2)),
    ((3, 32, 32), 16, 48, (1, 2, 2)),
]
EXAMPLES = 2048
LR = 1e-4


def diffsweep_steps(config: TrialConfig, data: Data) -> tuple[Steps, TrainState]:
    """A trial as a search runs it: three averages, clipping, and everything measured."""
    state = TrainState(config, data)
    state.step = 1000  # of a long training: the averages have slowed down

    def run(steps: int) -> None:
        train_until(state, state.samples + steps * config.batch_size)
        state.log.take()  # as a report would

    return run, state


def bare_steps(model: nn.Module, x: torch.Tensor, batch: int) -> Steps:
    """The shortest loop that trains this model."""
    bar = alpha_bar("cosine").float().to(x.device)
    a, s = bar.sqrt(), (1 - bar).sqrt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)

    def run(steps: int) -> None:
        model.train()
        for _ in range(steps):
            x0 = x[torch.randint(len(x), (batch,), device=x.device)]
            noise = torch.randn_like(x0)
            t = torch.randint(T, (batch,), device=x.device)
            noisy = a[t].view(-1, 1, 1, 1) * x0 + s[t].view(-1, 1, 1, 1) * noise
            loss = mse_loss(model(noisy, t.float()), noise)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def diffusers_steps(
    x: torch.Tensor, batch: int, multipliers: tuple[int, ...], weights: int
) -> tuple[Steps, int]:
    """diffusers' unconditional example, without its data loader; and its number of weights."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_cosine_schedule_with_warmup

    model = nearest_unet2d(x.shape[1:], multipliers, weights).to(x.device)
    scheduler = DDPMScheduler(num_train_timesteps=T)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.95, 0.999))
    lr_schedule = get_cosine_schedule_with_warmup(optimizer, 500, 10_000)

    def run(steps: int) -> None:
        model.train()
        for _ in range(steps):
            x0 = x[torch.randint(len(x), (batch,), device=x.device)]
            noise = torch.randn_like(x0)
            t = torch.randint(T, (batch,), device=x.device)
            loss = mse_loss(model(scheduler.add_noise(x0, noise, t), t).sample, noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_schedule.step()
            optimizer.zero_grad()

    return run, count(model)


def nearest_unet2d(shape: torch.Size, multipliers: tuple[int, ...], weights: int) -> nn.Module:
    """A UNet2DModel of the same levels, with attention in the middle, of about so many weights."""
    from diffusers import UNet2DModel

    def build(channels: int) -> nn.Module:
        model: nn.Module = UNet2DModel(
            sample_size=shape[-1],
            in_channels=shape[0],
            out_channels=shape[0],
            layers_per_block=1,
            block_out_channels=tuple(channels * m for m in multipliers),
            down_block_types=("DownBlock2D",) * len(multipliers),
            up_block_types=("UpBlock2D",) * len(multipliers),
            norm_num_groups=4,
        )
        return model

    widths = range(8, 200, 4)
    return min((build(c) for c in widths), key=lambda model: abs(count(model) - weights))


def count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def timed(run: Steps, steps: int, device: torch.device) -> float:
    """Seconds for so many steps: of this thread on a CPU, of the clock on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    run(steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def measure(
    shape: tuple[int, ...],
    batch: int,
    channels: int,
    multipliers: tuple[int, ...],
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Samples per second of each loop on examples of this shape, and the ratios of rounds."""
    device = pick_device("auto")
    examples = np.random.default_rng(0).uniform(-1, 1, (EXAMPLES, *shape)).astype(np.float32)
    part = Part(examples, None)
    config = TrialConfig.model_validate(
        {
            "model": {"type": "unet", "channels": channels, "multipliers": multipliers},
            "batch_size": batch,
            "steps": 10**6,
            "validation_examples": 256,
            "optimizer": {"type": "adamw", "lr": LR},
            "clip_norm": 1.0,
            "warmup": {"steps": 100},
            "threads": 1,
        }
    )
    ours, state = diffsweep_steps(config, Data(part, part, part))
    twin = TrainState(config, Data(part, part, part)).model
    x = torch.tensor(examples).to(device)
    loops: dict[str, Steps] = {"diffsweep": ours, "bare": bare_steps(twin, x, batch)}
    weights = {"diffsweep": count(state.model), "bare": count(twin)}
    try:
        loops["diffusers"], weights["diffusers"] = diffusers_steps(
            x, batch, multipliers, count(twin)
        )
    except ImportError:
        print("diffusers is not installed: no comparison (b)")
    for run in loops.values():
        run(3)
    steps = max(3, int(seconds / (timed(loops["bare"], 5, device) / 5)))
    times: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds):
        order = list(loops) if number % 2 else list(reversed(loops))
        for name in order:
            times[name].append(timed(loops[name], steps, device) / steps)
    step = statistics.median(times["diffsweep"])
    return {
        "shape": shape,
        "batch": batch,
        "device": device.type,
        "weights": weights,
        "samples_per_second": {n: batch / statistics.median(t) for n, t in times.items()},
        "ratio": {
            name: statistics.median(
                t / o for t, o in zip(times[name], times["diffsweep"], strict=True)
            )
            for name in loops
            if name != "diffsweep"
        },
        "measurements_share": measurements(state, device, step),
    }


def ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as fast ours is: the median over the rounds."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def measurements(state: TrainState, device: torch.device, step: float) -> dict[str, float]:
    """Shares of a step's time that go into what is measured, each by itself.

    `log` is what each step writes down, `norm` the gradient's norm and its clipping, `report` what
    a report measures beside the validation, every 400 steps with the variance of gradients.
    """
    for weight in state.trained.values():
        weight.grad = torch.full_like(weight, 1e-3)
    values = torch.ones(3, device=device).unbind()

    def log(times: int) -> None:
        for _ in range(times):
            state.log.add(*values)

    def norm(times: int) -> None:
        for _ in range(times):
            state.clip()

    def reports(times: int) -> None:
        state.step = 400 * 50  # where the variance is due
        for _ in range(times):
            insight(state)

    shares = {
        "log": timed(log, 200, device) / 200 / step,
        "norm": timed(norm, 50, device) / 50 / step,
        "report": timed(reports, 5, device) / 5 / (400 * step),
    }
    return shares | {"together": sum(shares.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a loop in a round")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for setup in SETUPS:
        found = measure(*setup, arguments.rounds, arguments.seconds)
        results.append(found)
        speeds = ", ".join(f"{n} {v:.0f}" for n, v in found["samples_per_second"].items())
        ratios = ", ".join(f"{v:.3f} of {n}" for n, v in found["ratio"].items())
        shares = ", ".join(f"{n} {v:.2%}" for n, v in found["measurements_share"].items())
        print(f"{'x'.join(map(str, found['shape']))}, batch {found['batch']}: {found['weights']}")
        print(f"  samples/s: {speeds}\n  diffsweep's speed: {ratios}\n  measured: {shares}")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
