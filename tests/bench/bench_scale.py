"""What a search of many trials costs the driver, without Ray: seconds of CPU per call.

    python tests/bench/bench_scale.py [--trials 100 1000 10000] [--whole 100 1000] [--out FILE]

Calls are timed on generated histories (histories.py), with so many trials in them.
Whole searches go through the live engine in virtual time, eight trials at once.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from histories import metrics, spec_of, write
from rich.console import Console

from search.answer.report import write_report
from search.engine.engine import Engine
from search.history.book import Book, Trial
from search.history.home import Home
from search.history.log import History, read_book
from search.watch.shown import show_trials
from search.watch.status import list_trials, status_of

AT_ONCE = 8
CALLS = 5  # of which the median counts
MOST_REPORTED = 10_000  # trials of which a report is written
MEMORY = "kB of memory for a trial, its reports too"
QUIET = Console(file=StringIO(), width=120)
Row = dict[str, float]


def timed(call: Callable[[], Any], calls: int = 1) -> float:
    """Seconds of CPU that a call takes, the median of some."""
    spent = []
    for _ in range(calls):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return sorted(spent)[len(spent) // 2]


def engine_on(book: Book, trials: int, sampler: str, several: bool) -> Engine:
    """An engine on a copy of a history's state, with room for more trials."""
    spec = spec_of(2 * trials, sampler, several)
    history = History(None, time.time)
    history.book = book
    book.spec = spec.model_dump(mode="json")
    return Engine(spec, history)


def calls_at(trials: int) -> Row:
    """What single calls cost where so many trials are there."""
    row: Row = {}
    with tempfile.TemporaryDirectory() as home:
        folder = Home(Path(home)).new("big")
        path = folder.history
        write(trials, spec_of(trials), path)
        row["read the history"] = timed(lambda: read_book(path))
        row["`status`, without start-up"] = timed(lambda: status_of(folder))
        row["`trials`, without start-up"] = timed(lambda: show_trials(QUIET, list_trials(folder)))
        if trials <= MOST_REPORTED:
            row["`report`"] = timed(lambda: write_report(folder, read_book(path)))
        for several in (False, True):
            book, how = read_book(path), "two objectives" if several else "one objective"
            for sampler in ("random", "tpe"):
                engine = engine_on(book, trials, sampler, several)
                number = len(book.trials)
                engine.arms.propose(number)
                spent = timed(lambda e=engine, n=number: e.arms.propose(n), CALLS)  # type: ignore[misc]
                row[f"proposal, {sampler}, {how}"] = spent
            row |= reports_at(engine_on(book, trials, "random", several), how)
        row[MEMORY] = memory_of(path, trials)
    return row


def reports_at(engine: Engine, how: str) -> Row:
    """What a report costs, between rungs and at one, and the look for a promotion."""
    draw, between, at, looks = random.Random(1), [], [], []
    timed(engine._promoted)  # builds what it goes by
    for call in range(2 * CALLS):
        trial = engine._ask(len(engine.book.trials), engine.book.trials[call].chosen)
        engine.active.add(trial.number)
        engine.begin(trial.number)
        level = engine.rung_levels(trial)[0] // 64
        for step, spent in ((level // 2, between), (level, at)):
            found = metrics(draw, step, 0.2 + draw.random())
            spent.append(timed(lambda n=trial.number, f=found: engine.report(n, f)))  # type: ignore[misc]
        looks.append(timed(engine._promoted))
    middle = CALLS
    return {
        f"report between rungs, {how}": sorted(between)[middle],
        f"report at a rung, {how}": sorted(at)[middle],
        f"look for a promotion, {how}": sorted(looks)[middle],
    }


def memory_of(path: Path, trials: int) -> float:
    """Kilobytes of a driver for each trial: the book and the engine's tables on it."""
    tracemalloc.start()
    engine_on(read_book(path), trials, "random", several=False)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / 1000 / trials


def whole(trials: int, sampler: str, several: bool) -> Row:
    """A whole search in virtual time."""
    now = 0.0
    history = History(None, lambda: now)
    spec = spec_of(trials, sampler, several)
    history.write("start", search="big-000000", spec=spec.model_dump(mode="json"), format=1)
    engine, draw = Engine(spec, history), random.Random(0)
    queue: list[tuple[float, int, int]] = []
    asking = reporting = 0.0

    def begin(trial: Trial) -> None:
        levels = [level for level in engine.rung_levels(trial) if level > trial.samples]
        regular = (trial.samples // 2560 + 1) * 2560
        samples = min([regular, trial.full_samples, *levels])
        heapq.heappush(queue, (now + (samples - trial.samples) / 64, trial.number, samples))

    def fill() -> None:
        nonlocal asking
        while len(engine.active) < AT_ONCE:
            began = time.process_time()
            trial = engine.next()
            asking += time.process_time() - began
            if trial is None:
                return
            engine.begin(trial.number)
            begin(trial)

    fill()
    while queue:
        now, number, samples = heapq.heappop(queue)
        rank = random.Random(number).random()
        loss = float("nan") if rank > 0.93 else 0.15 + 0.1 * rank + 512 / samples
        found, began = metrics(draw, samples // 64, loss), time.process_time()
        goes_on = engine.report(number, found)
        reporting += time.process_time() - began
        if goes_on:
            begin(engine.book.trials[number])
        fill()
    engine.finish()
    return {"proposals": asking, "reports": reporting, "total": asking + reporting}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--whole", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result: dict[str, dict[str, Row]] = {"calls": {}, "searches": {}}
    for trials in arguments.trials:
        result["calls"][str(trials)] = calls_at(trials)
        for name, seconds in result["calls"][str(trials)].items():
            shown = f"{seconds:10.2f}" if name == MEMORY else f"{1000 * seconds:10.2f} ms"
            print(f"{trials:7d}  {name:42s} {shown}", flush=True)
    for trials in arguments.whole:
        for sampler in ("random", "tpe"):
            for several in (False, True):
                if trials > 1000 and (several or sampler == "tpe"):
                    continue  # hours; single calls are above
                name = f"{trials} trials, {sampler}" + (", two objectives" if several else "")
                result["searches"][name] = row = whole(trials, sampler, several)
                said = ", ".join(f"{key} {seconds:.1f} s" for key, seconds in row.items())
                print(f"{name}: {said}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
