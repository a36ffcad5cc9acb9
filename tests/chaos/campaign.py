"""Searches that are struck again and again, by seed: is anything lost?

    python tests/chaos/campaign.py [--from 0] [--count 3] [--strikes 30] [--table FILE]
    python tests/chaos/campaign.py --sum FILE

Each seed stands for a short search with a spec of its own, and for strikes at random moments
(plans.py says which, attack.py does it): the driver, a trial's process, Ray's node process, a
second host, MLflow or S3 is killed, or frozen for a while. A driver that ended is resumed. At the
end the search has to be whole (checks.py says what that means). A row for each seed is appended to
the table. The same seed strikes again in the same way, as far as moments can be; the folder of a
search that was not whole stays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from attack import Attack
from plans import Plan, plan
from sums import sum_up
from support.paths import ROOT
from victims import remove


def attempt(one: Plan) -> dict[str, Any]:
    """Run a plan. The row for the table."""
    root, began = Path(tempfile.mkdtemp(prefix=f"c{one.seed}-", dir="/tmp")), time.monotonic()
    attack, wrong = Attack(one, root), None
    try:
        attack.run()
        remove(root)
    except Exception as error:
        traceback.print_exc()
        wrong = f"{type(error).__name__}: {str(error)[:1500]} (in {root})"
    spec, keys = one.spec, ("allocation", "scheduler", "sampler")
    words = {key: spec[key] for key in keys}
    return {
        "seed": one.seed,
        "commit": commit(),
        "spec": {k: v["type"] if isinstance(v, dict) else v for k, v in words.items()}
        | spec["resources"]
        | {"confirm": "confirm" in spec, "trials": spec["budget"]["trials"]},
        "storage": one.storage,
        "server": one.server,
        "host": one.host,
        "struck": attack.struck,
        "resumes": attack.resumes,
        "seconds": round(time.monotonic() - began),
        "wrong": wrong,
    }


def commit() -> str:
    """The code that a row is of: a seed is replayed with it."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--strikes", type=int, default=30)
    parser.add_argument("--minutes", type=float, help="begin no search after so many")
    parser.add_argument("--table", type=Path, help="a file of JSON lines to append to")
    parser.add_argument("--sum", type=Path, help="only say what the rows of a table add up to")
    arguments = parser.parse_args()
    if arguments.sum is not None:
        print(sum_up([json.loads(line) for line in arguments.sum.read_text().splitlines()]))
        return
    failed, began = [], time.monotonic()
    for seed in range(arguments.first, arguments.first + arguments.count):
        if arguments.minutes is not None and time.monotonic() - began >= 60 * arguments.minutes:
            print(f"the time is over; go on with --from {seed}", file=sys.stderr)
            break
        row = attempt(plan(seed, arguments.strikes))
        print(json.dumps(row), flush=True)
        if arguments.table is not None:
            with arguments.table.open("a") as table:
                table.write(json.dumps(row) + "\n")
        failed += [seed] if row["wrong"] else []
    again = "again: python tests/chaos/campaign.py --strikes"
    for seed in failed:
        print(f"{again} {arguments.strikes} --count 1 --from {seed}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
