"""What people take home: the config, the weights, the numbers, and a card that explains them."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from search.analysis import best
from search.describe import name, settings_of, yaml_text
from search.errors import BadInput
from search.history import Book, Trial
from search.home import Folder
from trainable.checkpoint import NAME as CHECKPOINT

FILES = ("config.yaml", "model.safetensors", "metrics.json", "README.md", "samples.png")


def export_best(folder: Folder, book: Book, to: Path) -> Trial:
    """Write the best trial's config, weights, metrics, card and samples to a folder.

    Raises:
        BadInput: no trial is complete, or the folder can't be written.
    """
    trial = best(book)
    if trial is None:
        raise BadInput(f"{folder.id}: nothing to export, no trial is complete")
    try:
        write_export(folder, trial, to)
    except OSError as error:
        raise BadInput(f"--to {to}: {error.strerror}") from error
    return trial


def write_export(folder: Folder, trial: Trial, to: Path) -> None:
    """Write one trial's export."""
    from safetensors.torch import save_file

    from trainable.checkpoint import read_weights

    to.mkdir(parents=True, exist_ok=True)
    last = trial.reports[-1]
    weights = read_weights(folder.trial(trial.number) / CHECKPOINT, last["weights"])
    save_file(
        {key: tensor.contiguous() for key, tensor in weights.items()}, to / "model.safetensors"
    )
    (to / "config.yaml").write_text(yaml_text(trial.config))
    (to / "metrics.json").write_text(json.dumps(metrics_of(folder, trial), indent=2) + "\n")
    (to / "README.md").write_text(card(folder, trial))
    grid = folder.trial(trial.number) / "samples.png"
    if grid.exists():
        shutil.copy(grid, to / "samples.png")


def metrics_of(folder: Folder, trial: Trial) -> dict[str, Any]:
    """The trial's last report at full precision, and where it comes from."""
    return {**trial.reports[-1], "search": folder.id, "trial": trial.number}


def card(folder: Folder, trial: Trial) -> str:
    """A model card: data, model, optimizer, numbers, and how to train it again."""
    config, last = trial.config, trial.reports[-1]
    knobs = "\n".join(f"| {key} | {value} |" for key, value in settings_of(trial).items())
    quartiles = " / ".join(f"{last[f'val_loss_q{q}']:.4f}" for q in range(1, 5))
    versions = ", ".join(f"{package} {version(package)}" for package in ("diffsweep", "torch"))
    grid = (folder.trial(trial.number) / "samples.png").exists()
    samples = "![Samples](samples.png)\n" if grid else ""
    return f"""---
license: # fill in
tags: [diffusion]
---
# {config["model"]["type"]} on {config["dataset"]["type"]}, trained with {trial.optimizer}

The best of the complete trials of the search `{folder.id}` ({name(trial)}).

{samples}
| | |
|---|---|
| data | `{config["dataset"]}` |
| model | `{config["model"]}`, {last["parameters"]:,} parameters |
| process | `{config["diffusion"]}` |
| budget | {config["steps"]} steps of {config["batch_size"]} examples, seed {config["seed"]} |
| optimizer | {trial.optimizer} |
{knobs}
| validation loss | {last["val_loss"]:.6f} ({last["weights"]} weights) |
| by noise level, lowest quartile to highest | {quartiles} |
| optimizer state | {last["optimizer_bytes"]:,} bytes |
| speed | {last["steps_per_second"]:.1f} steps/s |
| versions | {versions} |

The validation loss is one seed's, of a config that was chosen among many by this very loss: expect
a fresh seed to do slightly worse.

## Train it again
    diffsweep train config.yaml               # the same number, on the same machine and threads
    diffsweep train config.yaml --steps 5000  # for longer

## Load the weights
    from safetensors.torch import load_file
    weights = load_file("model.safetensors")  # the {last["weights"]} weights
"""
