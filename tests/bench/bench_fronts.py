"""Whether a search finds as good a front when fronts at a rung are made of nearly all its trials.

    python tests/bench/bench_fronts.py [--trials 1000] [--seeds 10]

Searches on synthetic problems in virtual time, each with fronts made of the first trials to come,
as `agreed` has it, and with fronts made anew for each trial. For both: the hypervolume of the
front that was found (the area that it dominates, in logarithms), and what was spent.
"""

from __future__ import annotations

import argparse
import math
from statistics import fmean
from typing import Any
from unittest.mock import patch

from problems import PROBLEMS, Problem

from search.engine import asha
from search.engine.analysis import front
from search.engine.engine import Engine
from search.forecast import play
from search.forecast.statistics import interval
from search.spec.spec import SearchSpec

WORKERS, STEPS = 8, 512
EXACT = 64  # leading bits of any number of trials
AIMS = [{"metric": "val_loss"}, {"metric": "peak_memory_bytes"}]
WORST = 1.0, 1e9  # loss and bytes


def size_of(config: Any, kinds: int) -> float:
    """Bytes that fall with the learning rate, so that the least is not at the best loss."""
    grid = math.log10(config["optimizer"]["lr"]) / 8
    return 1e6 * 10 ** -(round(grid * kinds) / kinds)


def searched(problem: Problem, seed: int, kinds: int, bits: int, args: Any) -> tuple[float, float]:
    """The hypervolume at the end of a search, and the full trainings that it took."""
    spec = SearchSpec.model_validate(
        {
            "name": "fronts",
            "trial": {"steps": STEPS, "batch_size": 1, "report_every": STEPS},
            "space": problem.space,
            "objective": AIMS,
            "baselines": "none",
            "sampler": {"type": args.sampler, "seed": seed},
            "budget": {"trials": args.trials},
        }
    )

    class Two(Engine):
        def report(self, number: int, metrics: dict[str, Any]) -> bool:
            size = size_of(self.book.trials[number].config, kinds)
            return super().report(number, metrics | {"peak_memory_bytes": size})

    def start(spec: SearchSpec, history: Any) -> Engine:
        history.book.spec = spec.model_dump(mode="json")
        return Two(spec, history)

    with patch.object(asha, "AGREED", bits), patch.object(play, "Engine", start):
        played = play.play(spec, problem, WORKERS)
    points = [(t.last("val_loss"), t.last("peak_memory_bytes")) for t in front(played.book)]
    return hypervolume([p for p in points if None not in p]), played.compute  # type: ignore[misc]


def hypervolume(points: list[tuple[float, float]]) -> float:
    area, above = 0.0, WORST[1]
    for loss, size in sorted(points):
        area += math.log(WORST[0] / loss) * math.log(above / size) if size < above else 0.0
        above = min(above, size)
    return area


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--problems", nargs="*", default=["hold", "cross"])
    parser.add_argument("--kinds", type=int, nargs="*", default=[4, 1000], help="sizes there are")
    args = parser.parse_args()
    for name in args.problems:
        for kinds in args.kinds:
            pairs = [
                [
                    searched(PROBLEMS[name][1](seed), seed, kinds, bits, args)
                    for bits in (asha.AGREED, EXACT)
                ]
                for seed in range(args.seeds)
            ]
            volumes, spent = ([[one[what] for one in pair] for pair in pairs] for what in (0, 1))
            apart = interval([100 * (a / b - 1) for a, b in volumes], fmean)
            print(
                f"{name}, {kinds} sizes, {args.trials} trials by {args.sampler}, {args.seeds} "
                f"seeds: hypervolume {fmean(a for a, _ in volumes):.4f}, made anew "
                f"{fmean(b for _, b in volumes):.4f} (difference {apart['low']:+.3f} to "
                f"{apart['high']:+.3f} %); full trainings {fmean(a for a, _ in spent):.1f} and "
                f"{fmean(b for _, b in spent):.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
