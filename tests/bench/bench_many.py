"""What a search of many trials of one second costs beside their sleep.

    python tests/bench/bench_many.py [--trials 1000] [--slots 16] [--reports 1] [--out FILE]

The trials sleep for their one step (bench's own model in sleeper/), are proposed at random and
recorded in the embedded MLflow store; Ray has as many CPUs as there are slots, whatever the
machine has. It is the fourth scalability test of Ray Tune's documentation (10,000 trials of one
second on 16 CPUs; ideal 625 s, published 715 s without a tracker). Seconds of CPU are of the
processes named; seconds of wall clock are of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
from bench_slots import spans

from search.history.home import Home
from search.history.log import read_book

SPEC = Path(__file__).parent / "sleeper" / "spec.yaml"
EVERY = 0.5  # seconds between looks at the processes


def run(trials: int, slots: int, reports: int, home: Path) -> dict[str, Any]:
    """Run the search and say what it took, per trial where that is what counts."""
    log = home / "sleeper.txt"
    home.mkdir(parents=True, exist_ok=True)
    cpu = (os.cpu_count() or 1) / slots
    settings = (
        f"budget.trials={trials}",
        f"trial.steps={reports}",
        f"resources={{cpu: {cpu}, concurrent: {slots}}}",
    )
    command = [sys.executable, "-m", "cluster.cli", "run", str(SPEC)]
    env = os.environ | {"DIFFSWEEP_HOME": str(home), "SLEEPER_LOG": str(log)}
    env |= {"OMP_NUM_THREADS": "1", "SLEEPER_SECONDS": str(1 / reports)}
    began = time.time()
    process = psutil.Popen(
        [*command, *(f"--set={setting}" for setting in settings)],
        env=env,
        stdout=subprocess.DEVNULL,
    )
    used: dict[tuple[int, str], float] = {}
    while process.poll() is None:
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                used[one.pid, kind(one, process.pid)] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        time.sleep(EVERY)
    ended = time.time()
    if process.returncode:
        raise SystemExit(f"the search ended with {process.returncode}")
    (search,) = Home(home).searches()
    book, (_, first, last) = read_book(search.history), spans(search.history)
    assert sum(trial.state == "complete" for trial in book.trials.values()) == trials
    return {
        "trials": trials,
        "slots": slots,
        "ideal": trials / slots,
        "wall": ended - began,
        "until_first": first - began,
        "after_last": ended - last,
        "per_second": trials / (last - first),
        **{f"{name}_cpu_ms": 1000 * spent / trials for name, spent in by_kind(used).items()},
        **gaps(log),
    }


def kind(process: psutil.Process, driver: int) -> str:
    if process.pid == driver:
        return "driver"
    return "trial" if process.name().startswith("ray::") else "ray"


def by_kind(used: dict[tuple[int, str], float]) -> dict[str, float]:
    """Seconds of CPU by kind of process."""
    sums: dict[str, float] = defaultdict(float)
    for (_, name), spent in used.items():
        sums[name] += spent
    return dict(sums)


def gaps(log: Path) -> dict[str, float]:
    """Between the end of a trial's step and the first step of the next in the same process."""
    walls, cpus, last = [], [], {}
    for line in log.read_text().splitlines():
        pid, what, wall, cpu = line.split()
        if what == "begin" and pid in last:
            walls.append(float(wall) - last[pid][0])
            cpus.append(float(cpu) - last[pid][1])
        last[pid] = (float(wall), float(cpu))
    return {
        "gap_ms": 1000 * statistics.median(walls),
        "gap_cpu_ms": 1000 * statistics.median(cpus),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--reports", type=int, default=1, help="of each trial, in its second")
    parser.add_argument("--home", type=Path, help="where the search is kept")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = run(given.trials, given.slots, given.reports, given.home or Path(temporary))
    for name, value in found.items():
        print(f"{name:15} {value:10.1f}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
