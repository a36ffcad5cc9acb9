"""How much of the machine's time a whole search spends in training steps.

    python tests/bench/bench_slots.py [SPEC] [--steps N] [--trials N] [--home DIR] [--out FILE]

Runs the main job (or SPEC) from the command line, in a home of its own, and reads its history:
slot efficiency is the seconds in training steps and in validations over slots x wall clock, from
the start of the process to its end. Beside it stands where the rest went. `--steps` makes the
trials of the main job longer: a search of ten minutes. `--home` keeps the search. Times are of
this machine; the ratio is what compares. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from search.answer.standing import seconds
from search.execution.local import concurrency
from search.history.book import Book
from search.history.home import Home
from search.history.log import events, read_book
from search.spec.spec import SearchSpec

MAIN = Path(__file__).parents[2] / "search" / "specs" / "digits.yaml"


def busy(book: Book) -> tuple[float, float]:
    """Seconds of all trials in training steps, and in validations."""
    trials = book.trials.values()
    training = sum(seconds(trial) for trial in trials)
    validation = sum(r["validation_seconds"] for trial in trials for r in trial.reports)
    return training, validation


def spans(path: Path) -> tuple[float, float, float]:
    """Seconds since the epoch: the first event, the first trial's begin, the last trial's end."""
    found = list(events(path))
    begins = [event["time"] for event in found if event["event"] == "begin"]
    ends = [event["time"] for event in found if event["event"] == "end"]
    return found[0]["time"] / 1000, begins[0] / 1000, ends[-1] / 1000


def measure(spec: Path, settings: list[str], home: Path) -> dict[str, Any]:
    """Run a search and say where its time went, in seconds and as shares of slots x wall."""
    env = os.environ | {"DIFFSWEEP_HOME": str(home)}
    command = [sys.executable, "-m", "cluster.cli", "run", str(spec)]
    began = time.time()
    subprocess.run(
        [*command, *(f"--set={setting}" for setting in settings)],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    ended = time.time()
    (search,) = Home(home).searches()
    book = read_book(search.history)
    _, first, last = spans(search.history)
    slots = concurrency(SearchSpec.model_validate(book.spec))
    training, validation = busy(book)
    total = slots * (ended - began)
    return {
        "trials": len(book.trials),
        "slots": slots,
        "wall": ended - began,
        "training": training / total,
        "validation": validation / total,
        "efficiency": (training + validation) / total,
        "start": slots * (first - began) / total,  # until the first trial is at work
        "end": slots * (ended - last) / total,  # the report and the export
        "between": (slots * (last - first) - training - validation) / total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", nargs="?", type=Path, default=MAIN)
    parser.add_argument("--steps", type=int, help="of each trial")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--home", type=Path, help="where the search is kept")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = [f"trial.steps={given.steps}"] if given.steps else []
    settings += [f"budget.trials={given.trials}"] if given.trials else []
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(given.spec, settings, given.home or Path(temporary))
    print(f"{found['trials']} trials, {found['slots']} slots, {found['wall']:.0f} s")
    for name in ("efficiency", "training", "validation", "start", "between", "end"):
        print(f"  {name:10} {found[name]:6.1%}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
