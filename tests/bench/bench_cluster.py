"""A cluster that is not here, in virtual time: where does the driver become the bottleneck?

    python tests/bench/bench_cluster.py [--slots 1000] [--trials 100000] [--lengths 10 60 600 3600]

The real engine decides for so many slots at once; trials take virtual seconds. The driver is one
server that takes up results in turn. Each costs it what the decision took here, in CPU time, and
beside that what COSTS says: of Ray Tune, of the recorder (which shares Python's lock with it) and
of the storage, whose answer a decision waits for. `--lengths` are the seconds of a whole trial of
ten reports. ASHA stops most earlier. What is printed: the share of the slots' time that goes into
training, how busy the driver is, and what brought it there.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from histories import TRIAL, metrics, spec_of

from search.engine.engine import Engine
from search.history.book import Trial
from search.history.log import History

# seconds of the driver; measured by bench_many.py and bench_scale.py (see search/README.md)
COSTS = {
    "Tune, a trial": 0.009,
    "Tune, a report": 0.0016,
    "recorder, a trial": {"file": 0.0031, "server": 0.0175},
    "recorder, a report": {"file": 0.0003, "server": 0.0045},
    "a write": {"disk": 0.0004, "s3": 0.03},  # until the storage has answered
}
SETUPS = {
    "home and embedded MLflow": ("file", "disk"),
    "S3 and an MLflow server": ("server", "s3"),
}


@dataclass
class Cluster:
    """A search on so many slots, up to its end."""

    slots: int
    trials: int
    length: float  # seconds of a whole trial
    tracking: str
    storage: str
    now: float = 0.0
    free_at: float = 0.0  # when the driver has taken up all that came so far
    trained: float = 0.0  # seconds of all slots
    spent: Counter[str] = field(default_factory=Counter)  # seconds of the driver, by what for
    queue: list[tuple[float, int, int]] = field(default_factory=list)

    def run(self) -> dict[str, float]:
        history = History(None, lambda: self.now)
        spec = spec_of(self.trials)
        start = {"search": "big-000000", "spec": spec.model_dump(mode="json"), "format": 1}
        history.write("start", **start)
        self.engine, draw = Engine(spec, history), random.Random(0)
        self.fill()
        while self.queue:
            self.now, number, samples = heapq.heappop(self.queue)
            rank = random.Random(number).random()
            loss = float("nan") if rank > 0.93 else 0.15 + 0.1 * rank + 512 / samples
            found = metrics(draw, samples // TRIAL["batch_size"], loss)
            began = time.process_time()
            goes_on = self.engine.report(number, found)
            self.pay("decisions", time.process_time() - began)
            self.pay("Tune", COSTS["Tune, a report"])
            self.pay("recorder", COSTS["recorder, a report"][self.tracking])
            if goes_on:
                self.train(self.engine.book.trials[number])
            else:
                self.pay("storage", COSTS["a write"][self.storage])  # its end
            self.fill()
        self.engine.finish()
        wall = max(self.now, self.free_at)
        shares = {name: seconds / wall for name, seconds in self.spent.items()}
        return {"training": self.trained / (self.slots * wall), "wall": wall, **shares}

    def pay(self, name: str, seconds: float) -> None:
        """Keep the driver busy, from now on or when it has done what came before."""
        self.free_at = max(self.free_at, self.now) + seconds
        self.spent[name] += seconds

    def fill(self) -> None:
        while len(self.engine.active) < self.slots:
            began = time.process_time()
            trial = self.engine.next()
            self.pay("decisions", time.process_time() - began)
            if trial is None:
                return
            self.pay("Tune", COSTS["Tune, a trial"])
            self.pay("recorder", COSTS["recorder, a trial"][self.tracking])
            self.pay("storage", COSTS["a write"][self.storage])  # that it is asked
            self.engine.begin(trial.number)
            self.train(trial)

    def train(self, trial: Trial) -> None:
        """Put its next report into the queue; it goes on when the driver has said so."""
        levels = [level for level in self.engine.rung_levels(trial) if level > trial.samples]
        every = trial.full_samples // 10
        regular = (trial.samples // every + 1) * every
        samples = min([regular, trial.full_samples, *levels])
        seconds = self.length * (samples - trial.samples) / trial.full_samples
        self.trained += seconds
        heapq.heappush(self.queue, (max(self.free_at, self.now) + seconds, trial.number, samples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--lengths", type=float, nargs="*", default=[10, 60, 600, 3600])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for setup, (tracking, storage) in SETUPS.items():
        for length in given.lengths:
            found = Cluster(given.slots, given.trials, length, tracking, storage).run()
            rows.append({"setup": setup, "length": length, **found})
            shares = ", ".join(f"{n} {found.get(n, 0):.0%}" for n in SHOWN)
            print(f"{setup}, {length:.0f} s: {found['wall']:.0f} s, {shares}", flush=True)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


SHOWN = ("training", "decisions", "Tune", "recorder", "storage")

if __name__ == "__main__":
    main()
