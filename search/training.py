"""`diffsweep train`: one config, with errors in plain words and a line of progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from search.anchor import anchor
from search.errors import BadInput
from search.reading import read
from trainable.config import TrialConfig


def read_config(path: Path) -> TrialConfig:
    """A config file, as `export` writes it.

    Raises:
        BadInput: every fault of the config, one line each.
    """
    document = read(path)
    anchor(document.data, path.parent)
    try:
        return TrialConfig.model_validate(document.data)
    except ValidationError as error:
        raise document.explain(error, TrialConfig) from error


def train_config(
    path: Path, steps: int | None, seed: int | None, out: Path | None, console: Console
) -> dict[str, Any]:
    """Train the config at `path`, if asked for with other steps or another seed.

    Raises:
        BadInput: the config, the data or the output folder won't do.
    """
    config = read_config(path)
    changes = {"steps": steps, "seed": seed}
    config = config.model_copy(update={k: v for k, v in changes.items() if v is not None})
    if out:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {out}: {error.strerror}") from error
    from trainable.solo import train

    def progress(metrics: dict[str, Any]) -> None:
        console.print(
            f"step {metrics['step']}/{config.steps}  train_loss {metrics['train_loss']:.4f}  "
            f"val_loss {metrics['val_loss']:.4f}  {metrics['steps_per_second']:.1f} steps/s"
        )

    try:
        return train(config, out, progress, lambda line: console.print(f"note: {line}"))
    except ValueError as error:
        raise BadInput(str(error)) from error
