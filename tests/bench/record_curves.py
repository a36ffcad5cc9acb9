"""Curves of one search as a CSV: python tests/bench/record_curves.py HISTORY.jsonl OUT.csv

tests/bench/table.csv is of `diffsweep run tests/bench/table.yaml`, a grid without early stopping.
What diverged is written with its last loss held to the end.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from search.history.log import read_book

SHARES = (1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0)
COLUMNS = ("optimizer", "lr", "warmup", "lr_schedule", "share", "val_loss")


def main(history: Path, out: Path) -> None:
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for trial in read_book(history).stage("search"):
            config, full = trial.config, trial.full_samples
            if trial.state not in ("complete", "diverged"):
                sys.exit(f"trial {trial.number} is {trial.state}")
            losses = {report["samples"] / full: report["val_loss"] for report in trial.reports}
            for share in SHARES:
                loss = losses.get(share, trial.last("val_loss"))
                lr, warmup = config["optimizer"]["lr"], config["warmup"]
                row = (trial.optimizer, lr, warmup, config["lr_schedule"], share, f"{loss:.6f}")
                writer.writerow(row)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
