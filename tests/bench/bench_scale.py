"""What a search of many trials costs the driver, without Ray: seconds of CPU per call.

    python tests/bench/bench_scale.py [--trials 100 1000 10000] [--whole 100 1000]
        [--recorded 100 1000] [--out FILE]

Calls are timed on generated histories (histories.py), with so many trials in them.
Whole searches go through the live engine in virtual time, eight trials at once. Some are recorded
to MLflow on SQLite afterwards, by the real recorder, in its batches.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sqlite3
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from io import StringIO
from pathlib import Path
from statistics import fmean, median
from typing import Any

from histories import metrics, spec_of, write
from rich.console import Console

from search.answer.report import write_report
from search.engine.engine import Engine
from search.history.book import Book, Trial
from search.history.home import Home
from search.history.log import History, read_book
from search.tracking.recorder import Recorder
from search.watch.shown import show_trials
from search.watch.status import list_searches, list_trials, status_of

AT_ONCE = 8
CALLS = 5  # of which the median counts
MOST_REPORTED = 10_000  # trials of which a report is written
SHARE = 16  # of the trials, which one in so many more reports follow: of them the mean counts too
PATIENCE = 3600.0  # seconds for the recorder
COUNTED = ("kB", "transactions", "rows")  # what is no time
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
        row["`ls`, without start-up"] = timed(lambda: list_searches(Home(Path(home))))
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
            row |= reports_at(engine_on(read_book(path), trials, "random", several), how)
        row |= memory_of(path, trials)
    return row


def reports_at(engine: Engine, how: str) -> Row:
    """What a report costs, between rungs and at one, and the look for a promotion.

    At a rung the mean of many, too: now and then one makes something anew for all.
    """
    draw = random.Random(1)
    between, at, looks = list[float](), list[float](), list[float]()
    timed(engine._promoted)  # builds what it goes by
    for call in range(max(4 * CALLS, len(engine.book.trials) // SHARE)):
        trial = engine._ask(len(engine.book.trials), engine.book.trials[call % 90].chosen)
        engine.active.add(trial.number)
        engine.begin(trial.number)
        level = engine.rung_levels(trial)[0] // 64
        for step, spent in ((level // 2, between), (level, at)):
            found = metrics(draw, step, 0.2 + draw.random())
            spent.append(timed(lambda n=trial.number, f=found: engine.report(n, f)))  # type: ignore[misc]
        looks.append(timed(engine._promoted))
    return {
        f"report between rungs, {how}": median(between),
        f"report at a rung, {how}": median(at),
        f"report at a rung, {how}, the mean": fmean(at),
        f"look for a promotion, {how}": median(looks),
        f"look for a promotion, {how}, the mean": fmean(looks),
    }


def memory_of(path: Path, trials: int) -> Row:
    """Kilobytes of a driver for each trial: the book and the engine's tables on it."""
    row = {}
    for sampler, several in (("random", False), ("tpe", True)):
        tracemalloc.start()
        book = read_book(path)
        engine = engine_on(book, trials, sampler, several)
        how = f"kB a trial, {sampler}, {'two objectives' if several else 'one objective'}"
        row[f"{how}, with its reports"] = tracemalloc.get_traced_memory()[0] / 1000 / trials
        for trial in book.trials.values():
            trial.reports.clear()
        row[f"{how}, without"] = tracemalloc.get_traced_memory()[0] / 1000 / trials
        tracemalloc.stop()
        del engine
    return row


def recorded(trials: int) -> Row:
    """What it costs to record a whole search to MLflow on SQLite."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine as Database

    commits = 0

    def count(_: Any) -> None:
        nonlocal commits
        commits += 1

    with tempfile.TemporaryDirectory() as path:
        home = Home(Path(path))
        folder = home.new("big")
        whole(trials, "random", several=False, path=folder.history)
        first = home.new("first")  # makes the store, and has MLflow imported
        whole(1, "random", several=False, path=first.history)
        with Recorder(spec_of(1), first, home):
            pass
        event.listen(Database, "commit", count)
        before, commits = rows_of(home), 0
        recorder = Recorder(spec_of(trials), folder, home, patience=PATIENCE)
        spent = timed(lambda: recorder.__enter__().__exit__(None, None, None))
        event.remove(Database, "commit", count)
        assert not recorder.undelivered, recorder.error
        return {
            "CPU of the recorder for a trial": spent / trials,
            "transactions for a trial": commits / trials,
            "rows for a trial": (rows_of(home) - before) / trials,
        }


def rows_of(home: Home) -> int:
    """Rows in all tables of the store."""
    with closing(sqlite3.connect(home.store)) as store:
        tables = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sum(
            store.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables
        )


def whole(trials: int, sampler: str, several: bool, path: Path | None = None) -> Row:
    """A whole search in virtual time."""
    now = 0.0
    history = History(path, lambda: 1.7e9 + now)
    spec = spec_of(trials, sampler, several)
    name = path.parent.name if path else "big-000000"
    history.write("start", search=name, spec=spec.model_dump(mode="json"), format=1)
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


def show(trials: int, name: str, value: float) -> None:
    shown = f"{value:10.2f}" if name.startswith(COUNTED) else f"{1000 * value:10.2f} ms"
    print(f"{trials:7d}  {name:52s} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--whole", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--recorded", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result: dict[str, dict[str, Row]] = {"calls": {}, "recorded": {}, "searches": {}}
    for trials in arguments.trials:
        result["calls"][str(trials)] = calls_at(trials)
        for name, seconds in result["calls"][str(trials)].items():
            show(trials, name, seconds)
    for trials in arguments.recorded:
        result["recorded"][str(trials)] = recorded(trials)
        for name, value in result["recorded"][str(trials)].items():
            show(trials, name, value)
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
