"""python -m trainable CONFIG: train one config without Ray."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ruamel.yaml import YAML

from trainable.config import TrialConfig
from trainable.solo import train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trainable", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = TrialConfig.model_validate(YAML(typ="safe", pure=True).load(arguments.config))
    metrics = train(config, arguments.out, lambda report: print(json.dumps(report), flush=True))
    sys.exit(0 if metrics["diverged_at"] is None else 1)


if __name__ == "__main__":
    main()
