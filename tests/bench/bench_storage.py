"""What a search of many trials leaves in S3, and what reading and deleting it takes.

    python tests/bench/bench_storage.py [--trials 10000] [--apart] [--driven 1 60]

All against a SeaweedFS on this machine. A history of so many trials is generated (histories.py)
and brought there as a driver does it: what trials report goes along with the next decision, and
segments are joined as they come. With --apart, each event is an object, as before that was so.
Then `status` reads it with an empty home, in a process of its own, and everything is deleted.

--driven: an engine without Ray in real time, 16 trials at once, each of so many seconds and with
ten reports, no early stopping; objects and requests are counted.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from histories import TRIAL, events, metrics, spec_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.services import BUCKET, S3

from search.engine.engine import Engine
from search.history.home import Home
from search.history.lease import driving
from trainable.base.opening import open_storage
from trainable.base.storage import Storage

ID = "big-000000"
SEEN = ("report", "begin")
AT_ONCE = 16
REPORTS = 10  # of a trial
TRIES = 3  # of which the quickest counts, on a machine that others use
STEPS = int(TRIAL["steps"])


def segments(trials: int, apart: bool) -> Iterator[bytes]:
    """The history, cut as a driver writes it."""
    gathered = b""
    for event in events(trials, spec_of(trials)):
        gathered += json.dumps(event).encode() + b"\n"
        if apart or event["event"] not in SEEN:
            yield gathered
            gathered = b""
    if gathered:
        yield gathered


def fill(storage: Storage, trials: int, apart: bool) -> int:
    """Bring a search to the storage; how many bytes its history has."""
    from search.history.pieces import name_of

    cut, number, size = segments(trials, apart), 0, 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        names = [
            f"trials/{number}/{name}"
            for number in range(trials)
            for name in ("0001.0001.begun-000000000000", "samples.png")
        ]
        list(pool.map(lambda name: storage.write(name, b""), names))
        while new := dict(enumerate(islice(cut, 64), start=number + 1)):
            list(pool.map(lambda each: storage.create(name_of(each[0]), each[1]), new.items()))
            number, size = max(new), size + sum(map(len, new.values()))
            if not apart:
                from search.history.joining import join

                join(storage, {name_of(each): content for each, content in new.items()})
    return size


def status(server: S3, home: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, that `status` takes with an empty home."""
    environment = {**os.environ, **server.environment, "DIFFSWEEP_HOME": str(home)}
    environment["DIFFSWEEP_STORAGE"] = f"s3://{BUCKET}/bench"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cluster.cli", "status", ID, "-o", "json"],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cold(server: S3, folder: Path, trials: int, apart: bool) -> dict[str, Any]:
    storage = open_storage(f"s3://{BUCKET}/bench/{ID}")
    row: dict[str, Any] = {"history, MB": fill(storage, trials, apart) / 1e6}
    row["objects of the history"] = len(storage.names("history/"))
    row["objects in all"] = len(storage.names())
    homes = [folder / f"home-{trials}-{attempt}" for attempt in range(TRIES)]
    for name in ("cold `status`", "again"):
        row[f"{name}, s"], row[f"{name}, s of CPU"] = min(status(server, home) for home in homes)
    began = time.monotonic()
    storage.delete_all()
    row["delete all, s"] = time.monotonic() - began
    return row


def driven(folder: Path, seconds: float, trials: int) -> dict[str, Any]:
    """An engine in real time; what it leaves in storage, for each of its trials."""
    home = Home(folder / f"driven-{seconds:g}")
    search = home.new("big", f"s3://{BUCKET}/driven-{seconds:g}")
    keys = {"scheduler": {"type": "none"}, "budget": {"trials": trials}}
    given = spec_of(trials).model_dump(mode="json") | keys
    spec = type(spec_of(trials)).model_validate(given)
    requests: Counter[str] = Counter()
    with driving(search) as history:
        storage = history.mirror.storage  # type: ignore[union-attr]
        storage.client.meta.events.register(
            "before-call.s3", lambda model, **_: requests.update([model.name])
        )
        history.write("start", search=search.id, spec=spec.model_dump(mode="json"), format=1)
        engine, draw = Engine(spec, history), random.Random(0)
        queue: list[tuple[float, int, int]] = []
        while True:
            while len(engine.active) < AT_ONCE and (trial := engine.next()):
                engine.begin(trial.number)
                length = seconds * (0.8 + 0.4 * draw.random())  # not all at the same moment
                for report in range(1, REPORTS + 1):
                    due = time.monotonic() + length * report / REPORTS
                    heapq.heappush(queue, (due, trial.number, STEPS * report // REPORTS))
            if not queue:
                break
            due, number, step = heapq.heappop(queue)
            time.sleep(max(0.0, due - time.monotonic()))
            engine.report(number, metrics(draw, step, 0.2 + 1 / step))
        engine.finish()
    left = len(storage.names("history/"))
    return {
        "objects written": requests["PutObject"] / trials,
        "objects left": left / trials,
        **{f"{name} a trial": count / trials for name, count in requests.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="*", default=[10_000])
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--driven", type=float, nargs="*", default=[1, 60])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        server = S3(folder)
        server.start()
        os.environ.update(server.environment)
        try:
            for seconds in arguments.driven:
                row = driven(folder, seconds, trials=int(max(2 * AT_ONCE, 160 / seconds)))
                show(f"trials of {seconds:g} s", row)
            for trials in arguments.trials:
                show(f"{trials} trials", cold(server, folder, trials, arguments.apart))
        finally:
            server.kill()


def show(what: str, row: dict[str, Any]) -> None:
    for name, value in row.items():
        print(f"{what:16s} {name:32s} {value:12.4g}", flush=True)


if __name__ == "__main__":
    main()
