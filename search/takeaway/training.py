"""`diffsweep train`: one config, with a line of progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from trainable.config_file import read_config


def train_config(
    path: Path, steps: int | None, seed: int | None, out: Path | None, console: Console
) -> dict[str, Any]:
    """Train the config at `path`, if asked for with other steps or another seed.

    Raises:
        BadInput: the config, the data, the model, the machine or the output folder won't do.
    """
    flags = {"steps": steps, "seed": seed}
    config = read_config(path, {key: value for key, value in flags.items() if value is not None})
    from trainable.solo import train

    def progress(metrics: dict[str, Any]) -> None:
        console.print(
            f"step {metrics['step']}/{config.steps}  train_loss {metrics['train_loss']:.4f}  "
            f"val_loss {metrics['val_loss']:.4f}  {metrics['steps_per_second']:.1f} steps/s"
        )

    return train(config, out, progress, lambda line: console.print(f"note: {line}"))
