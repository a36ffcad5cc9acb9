"""Whether TPE finds as much when it is shown some of many trials as when it is shown all.

    python tests/bench/bench_shown.py [--trials 1000] [--seeds 8]

Searches on synthetic problems in virtual time, the same seeds with both. For each: how far the
best of all trials is from the best that is known (regret), and the seconds of CPU that it took.
"""

from __future__ import annotations

import argparse
import time
from statistics import fmean
from unittest.mock import patch

from problems import PROBLEMS

from search.engine import frozen
from search.forecast.replay import simulate
from search.forecast.statistics import interval
from search.spec.spec import SearchSpec

WORKERS, STEPS = 8, 512
ALL = 10**9


def regret(problem: str, seed: int, trials: int, shown: int) -> tuple[float, float]:
    """The regret at the end of a search, and seconds of CPU."""
    instance, began = PROBLEMS[problem][1](seed), time.process_time()
    spec = SearchSpec.model_validate(
        {
            "name": "shown",
            "trial": {"steps": STEPS, "batch_size": 1, "report_every": STEPS},
            "space": instance.space,
            "baselines": "none",
            "sampler": {"type": "tpe", "seed": seed},
            "budget": {"trials": trials},
        }
    )
    with patch.object(frozen, "SHOWN", shown):
        found = simulate(spec, instance, WORKERS).regret
    return found, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--problems", nargs="*", default=["hold", "cross"])
    arguments = parser.parse_args()
    for problem in arguments.problems:
        pairs = [
            [regret(problem, seed, arguments.trials, shown) for shown in (frozen.SHOWN, ALL)]
            for seed in range(arguments.seeds)
        ]
        some, everything = ([100 * pair[side][0] for pair in pairs] for side in (0, 1))
        seconds = [fmean(pair[side][1] for pair in pairs) for side in (0, 1)]
        apart = interval([a - b for a, b in zip(some, everything, strict=True)], fmean)
        print(
            f"{problem}, {arguments.trials} trials, {arguments.seeds} seeds: regret "
            f"{fmean(some):.3f} % shown {frozen.SHOWN}, {fmean(everything):.3f} % shown all "
            f"(difference {apart['low']:+.3f} to {apart['high']:+.3f}); "
            f"{seconds[0]:.0f} s and {seconds[1]:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
