"""diffsweep against what a user would install instead, on recorded and synthetic curves.

All searches have the same workers, the same budget of compute and the same baselines, in virtual
time. Each method that stops trials gets the setting (first rung and reduction factor, of one grid
for all) that was best for it on each problem over other seeds than those it is shown with;
diffsweep is shown with its defaults, too. Compute is counted in full trainings.

Raw results go to a file, a line for each run; what is in it is not run again. By the CPU
time of single runs, everything takes about an hour on two idle cores, most of it for Syne Tune's
ASHA-CQR (20 s a run); a first look without it, with --seeds 10 --tuning 3, some ten minutes.
"""

from __future__ import annotations

import argparse
import atexit
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from peers import (
    SYNE_PYTHON,
    UNITS,
    FullBudget,
    Hyperband,
    Ray,
    Syne,
    Trace,
    compute_to,
    drive,
    regret_at,
    silence,
    syne_server,
)
from problems import NEAR, PROBLEMS, Problem

from search.forecast.replay import simulate
from search.forecast.statistics import interval
from search.spec.space import settings
from search.spec.spec import SearchSpec

WORKERS = 4
LIMIT = 24.0  # full trainings that a search may spend
EQUAL = (8.0, LIMIT)  # compute at which regrets are compared
GRID = tuple(product((2, 4, 8, 16), (2, 4)))  # first rung in 64ths of a training; factor
TUNING = 1000  # the first of the seeds with which settings are chosen
STEPS = 512  # of a full training, as diffsweep counts

Setting = tuple[int, int] | None  # None: the method's own, or it has none


@dataclass(frozen=True)
class Cell:
    """One run."""

    problem: str
    method: str
    setting: Setting
    baselines: bool
    seed: int


@dataclass(frozen=True)
class Method:
    """What is compared: how it runs, and how much of it can be afforded."""

    run: Callable[[Problem, Cell, list[dict[str, Any]]], Trace]
    settings: tuple[Setting, ...] = (None,)
    seeds: int = 30
    tuning: int = 10  # seeds to choose a setting with
    stack: str = ""  # what it needs beside diffsweep's own environment
    like: str | None = None  # too slow to try settings with: it takes those of this method


def diffsweep(**keys: Any) -> Callable[[Problem, Cell, list[dict[str, Any]]], Trace]:
    def run(problem: Problem, cell: Cell, baselines: list[dict[str, Any]]) -> Trace:
        scheduler: dict[str, Any] = {"type": "asha"}
        if cell.setting is not None:
            grace, factor = cell.setting
            scheduler |= {"grace_steps": grace * STEPS // UNITS, "reduction_factor": factor}
        spec = SearchSpec.model_validate(
            {
                "name": "bench",
                "trial": {"steps": STEPS, "batch_size": 1, "report_every": STEPS},
                "space": problem.space,
                "baselines": [settings(chosen) for chosen in baselines] or "none",
                "sampler": {"type": keys.get("sampler", "tpe"), "seed": cell.seed},
                "scheduler": scheduler,
                "budget": {"trials": 10_000},
            }
        )
        return list(simulate(spec, problem, WORKERS, LIMIT).trace)

    return run


def peer(kind: Any, **keys: Any) -> Callable[[Problem, Cell, list[dict[str, Any]]], Trace]:
    def run(problem: Problem, cell: Cell, baselines: list[dict[str, Any]]) -> Trace:
        grace = (
            {} if cell.setting is None else {"grace": cell.setting[0], "factor": cell.setting[1]}
        )
        return drive(kind(problem, cell.seed, baselines, **keys, **grace), problem, WORKERS, LIMIT)

    return run


def syne(scheduler: str) -> Callable[[Problem, Cell, list[dict[str, Any]]], Trace]:
    def run(problem: Problem, cell: Cell, baselines: list[dict[str, Any]]) -> Trace:
        grace, factor = cell.setting or (1, 2)
        made = Syne(
            problem, cell.seed, baselines,
            server=server(), scheduler=scheduler, grace=grace, factor=factor,
        )  # fmt: skip
        return drive(made, problem, WORKERS, LIMIT)

    return run


METHODS: dict[str, Method] = {
    "diffsweep, defaults": Method(diffsweep()),
    "diffsweep": Method(diffsweep(), GRID),
    "diffsweep, sampler random": Method(diffsweep(sampler="random"), GRID),
    "random, full budget": Method(peer(FullBudget)),
    "random + Ray ASHA": Method(peer(Ray, sampler="random"), GRID),
    "Ray OptunaSearch + ASHA": Method(peer(Ray, sampler="tpe"), GRID),
    "Optuna TPE + Hyperband": Method(peer(Hyperband), GRID),
    "Syne Tune ASHA": Method(syne("ASHA"), GRID, stack="syne"),
    "Syne Tune ASHA-CQR": Method(syne("ASHACQR"), seeds=10, stack="syne", like="Syne Tune ASHA"),
    "Syne Tune BORE": Method(syne("BORE"), seeds=10, stack="syne"),
}

exits = ExitStack()  # closed when the process ends
atexit.register(exits.close)


@cache
def server() -> Any:
    """One server of Syne Tune for each process."""
    return exits.enter_context(syne_server())


@cache
def problem_of(name: str, seed: int) -> Problem:
    return PROBLEMS[name][1](seed)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Run one search; its trace and what it is measured against."""
    problem = problem_of(cell.problem, cell.seed)
    began = time.process_time()
    baselines = problem.baselines if cell.baselines else []
    trace = METHODS[cell.method].run(problem, cell, baselines)
    seconds = round(time.process_time() - began, 3)
    return {**asdict(cell), "best": problem.best, "trace": trace, "seconds": seconds}


class Results:
    """Runs that are done, in memory and in a file."""

    def __init__(self, path: Path, jobs: int) -> None:
        self.path, self.jobs, self.done = path, jobs, {}
        if path.exists():
            for line in path.read_text().splitlines():
                self._take(json.loads(line))

    def _take(self, row: dict[str, Any]) -> None:
        setting = tuple(row["setting"]) if row["setting"] else None
        key = Cell(row["problem"], row["method"], setting, row["baselines"], row["seed"])
        self.done[key] = row

    def run(self, cells: Iterable[Cell]) -> None:
        """Run what is not done yet."""
        todo = [cell for cell in cells if cell not in self.done]
        if not todo:
            return
        began = time.perf_counter()
        with self.path.open("a") as file, multiprocessing.Pool(self.jobs, silence) as pool:
            for count, row in enumerate(pool.imap_unordered(run_cell, todo, chunksize=4), 1):
                file.write(json.dumps(row) + "\n")
                self._take(row)
                if count % 50 == 0 or count == len(todo):
                    file.flush()
                    spent = time.perf_counter() - began
                    print(f"{count}/{len(todo)} runs, {spent:.0f} s", file=sys.stderr)
            pool.close()
            pool.join()

    def rows(self, problem: str, method: str, setting: Setting, base: bool, seeds: range) -> Any:
        return [self.done[Cell(problem, method, setting, base, seed)] for seed in seeds]


def to_1pct(row: dict[str, Any]) -> tuple[float, bool]:
    return compute_to(row["trace"], NEAR * row["best"], LIMIT)


def tuning_cells(problem: str, methods: list[str], limit: int) -> Iterator[Cell]:
    """What settings are chosen with: without baselines, on seeds of their own."""
    for name in methods:
        method = METHODS[name]
        if len(method.settings) > 1:
            for setting, seed in product(method.settings, range(min(method.tuning, limit))):
                yield Cell(problem, name, setting, False, TUNING + seed)


def shown_cells(results: Results, problem: str, args: Any) -> Iterator[Cell]:
    """What is shown: each method at its best setting, without and with baselines."""
    for name, baselines in product(args.methods, (False, True)):
        setting = choose(results, problem, name, args.tuning)
        for seed in range(min(METHODS[name].seeds, args.seeds)):
            yield Cell(problem, name, setting, baselines, seed)


def choose(results: Results, problem: str, name: str, limit: int) -> Setting:
    """The setting with the least compute to 1 %, and of equal ones the least regret."""
    name = METHODS[name].like or name
    method = METHODS[name]
    seeds = range(TUNING, TUNING + min(method.tuning, limit))

    def cost(setting: Setting) -> tuple[float, float]:
        rows = results.rows(problem, name, setting, False, seeds)
        regrets = [min(regret_at(r["trace"], r["best"], LIMIT), 1.0) for r in rows]
        return fmean(to_1pct(row)[0] for row in rows), fmean(regrets)

    return min(method.settings, key=cost) if len(method.settings) > 1 else None


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Interquartile means with bootstrap intervals over the seeds."""
    spent = [to_1pct(row) for row in rows]
    regrets = {
        f"regret_at_{compute:g}": interval(
            [min(regret_at(row["trace"], row["best"], compute), 1.0) for row in rows]
        )
        for compute in EQUAL
    }
    return {
        "compute_to_1pct": interval([compute for compute, _ in spent]),
        "found": fmean(found for _, found in spent),
        "seeds": len(rows),
        **regrets,
    }


def show(results: Results, problem: str, args: Any) -> list[dict[str, Any]]:
    """Print the tables of a problem; the same numbers as a list."""
    numbers = []
    for baselines in (False, True):
        count = len(problem_of(problem, 0).baselines) if baselines else "no"
        print(f"\n**{problem}** ({PROBLEMS[problem][0]}), {count} baselines first\n")
        heads = " | ".join(f"regret at {compute:g}" for compute in EQUAL)
        print(f"| method | setting | seeds | compute to 1 % | found | {heads} |")
        print("|---|---|---|---|---|" + "---|" * len(EQUAL))
        for name in args.methods:
            setting = choose(results, problem, name, args.tuning)
            seeds = range(min(METHODS[name].seeds, args.seeds))
            row = summary(results.rows(problem, name, setting, baselines, seeds))
            cells = [
                name,
                f"1/{UNITS // setting[0]}, {setting[1]}" if setting else "",
                str(row["seeds"]),
                _interval(row["compute_to_1pct"]),
                f"{row['found']:.0%}",
                *(_interval(row[f"regret_at_{c:g}"], 100, " %") for c in EQUAL),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
            key = {"problem": problem, "baselines": baselines, "method": name, "setting": setting}
            numbers.append(key | row)
    return numbers


def _interval(value: dict[str, float], scale: float = 1, unit: str = "") -> str:
    iqm, low, high = (scale * value[key] for key in ("iqm", "low", "high"))
    return f"{iqm:.1f}{unit} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=30, help="at most, for each method")
    parser.add_argument("--tuning", type=int, default=10, help="seeds to choose settings with")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-search.jsonl"))
    args = parser.parse_args()
    if not SYNE_PYTHON.exists() and any(METHODS[name].stack for name in args.methods):
        sys.exit(
            "Syne Tune is not installed: make bench-search installs it, in its own environment"
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    silence()
    results, numbers = Results(args.out, args.jobs), []
    for problem in args.problems:
        results.run(tuning_cells(problem, args.methods, args.tuning))
        results.run(shown_cells(results, problem, args))
        numbers += show(results, problem, args)
    table = args.out.with_suffix(".json")
    table.write_text(json.dumps(numbers, indent=1))
    print(f"\nruns: {args.out}, numbers: {table}")


if __name__ == "__main__":
    main()
