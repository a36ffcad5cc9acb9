"""python -m trainable CONFIG: train one config without Ray."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainable.base.errors import DiffsweepError
from trainable.base.plain import to_json
from trainable.config_file import read_config
from trainable.solo import train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trainable", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    try:
        metrics = train(
            read_config(arguments.config),
            arguments.out,
            lambda report: print(to_json(report), flush=True),
            lambda line: print(f"note: {line}", file=sys.stderr),
        )
    except DiffsweepError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    if metrics["diverged_at"] is not None:
        print(f"diverged at step {metrics['diverged_at']}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
