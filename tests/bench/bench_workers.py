"""What several workers cost: samples per second of two with a thread each, against one with two.

    python tests/bench/bench_workers.py [--rounds 5] [--steps 20]

They take turns; what counts is the ratio within a round, by the clock, and the processor time
that a sample takes, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from support.crew import Crew

from trainable.config import TrialConfig
from trainable.data.parts import Data, Part
from trainable.parallel.gang import Gang
from trainable.train import TrainState, train_until

# shape, batch, channels and multipliers of the U-Net
SETUPS: list[tuple[tuple[int, ...], int, int, tuple[int, ...]]] = [
    ((1, 8, 8), 64, 32, (1, 2)),
    ((1, 28, 28), 32, 32, (1, 2, 2)),
    ((3, 32, 32), 64, 48, (1, 2, 2)),
]


def rehearse(gang: Gang, shape: tuple[int, ...], config: TrialConfig) -> tuple[float, float]:
    """Seconds by the clock, and of this process, for all steps but the first two."""
    x = np.random.default_rng(0).uniform(-1, 1, (512, *shape)).astype(np.float32)
    part = Part(x, None)
    state = TrainState(config, Data(part, part, part), gang=gang)
    train_until(state, 2 * config.batch_size)
    began, used = time.perf_counter(), time.process_time()
    train_until(state, config.samples)
    return time.perf_counter() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    crew = Crew(2)
    for shape, batch, channels, multipliers in SETUPS:
        settings = {
            "model": {"type": "unet", "channels": channels, "multipliers": multipliers},
            "batch_size": batch,
            "steps": arguments.steps + 2,
            "validation_examples": 4,
            "optimizer": {"type": "adamw", "lr": 1e-4},
            "clip_norm": 1.0,
        }
        samples, rows = arguments.steps * batch, []
        for _ in range(arguments.rounds):
            found = []
            for workers in (1, 2):
                config = TrialConfig.model_validate(settings | {"threads": 3 - workers})
                answers = crew.run(workers, rehearse, shape, config)
                found.append((answers[0][0] / samples, sum(a[1] for a in answers) / samples))
            rows.append(found)
        speed = [1 / statistics.median(row[i][0] for row in rows) for i in (0, 1)]
        ratio = statistics.median(one[0] / two[0] for one, two in rows)
        cost = statistics.median(two[1] / one[1] for one, two in rows)
        print(
            f"{'x'.join(map(str, shape))}, batch {batch}: {speed[0]:.0f} samples/s with one "
            f"worker of two threads, {speed[1]:.0f} with two of one: {ratio:.2f} times; processor "
            f"time of a sample {cost:.2f} times",
            flush=True,
        )
    crew.end()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
