"""The model card of an export: what it is, how good and how sure, and how to train it again."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from search.answer.describe import name, settings_of
from search.answer.standing import confirmed, standing
from search.engine.confirm import test_metric
from search.history.book import Book, Trial
from search.judging.comparing import MARGIN


def confirmation(book: Book, trial: Trial) -> dict[str, Any] | None:
    """What the confirm stage says of this trial's config, if it was confirmed."""
    stood = standing(book, MARGIN)
    for contender in stood.everyone:
        if trial in contender.sources and contender.trials:
            return confirmed(contender, test_metric(book)) | {"on": test_metric(book)}
    return None


def card(book: Book, trial: Trial, samples: bool) -> str:
    """The card as Markdown; the header's empty fields are for the owner to fill."""
    config, last = trial.config, trial.reports[-1]
    knobs = "\n".join(f"| {key} | {value} |" for key, value in settings_of(trial).items())
    quartiles = " / ".join(f"{last[f'val_loss_q{q}']:.4f}" for q in range(1, 5))
    packages = ("diffsweep", "torch", "numpy")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    line, sure = _sureness(book, trial)
    return f"""---
license: # of these weights; fill in
dataset_license: # of the data; fill in
tags: [diffusion]
---
# {config["model"]["type"]} on {config["dataset"]["type"]}, trained with {trial.optimizer}

From the search `{book.id}` ({name(trial)}), over {", ".join(book.spec["space"]["optimizer"])}.

{"![Samples](samples.png)" if samples else ""}

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
{line}| optimizer state | {last["optimizer_bytes"]:,} bytes |
| speed | {last["steps_per_second"]:.1f} steps/s |
| versions | {versions} |

{sure}

## Train it again
    diffsweep train config.yaml               # the same number, on the same machine and threads
    diffsweep train config.yaml --steps 5000  # for longer
    diffsweep train config.yaml --seed 1      # another seed

## Sample from it
    from trainable.exported import Exported
    x = Exported(".").sample(16)  # [16, *shape]

The weights alone: `safetensors.torch.load_file("model.safetensors")`; they are the
{last["weights"]} weights.
"""


def _sureness(book: Book, trial: Trial) -> tuple[str, str]:
    """A line of the table, and what a reader may take from the numbers."""
    found = confirmation(book, trial)
    if not found or not found.get("interval"):
        return "", (
            "The validation loss is one seed's, of a config that was chosen among many by this "
            "very loss: expect a\nfresh seed to do slightly worse. `diffsweep confirm` says by "
            "how much."
        )
    low, high = found["interval"]
    metric = found["on"].replace("_", " ")
    line = (
        f"| {metric} over {found['seeds']} fresh seeds | {found['mean']:.6f}, 95 % interval "
        f"{low:.6f} to {high:.6f} |\n"
    )
    return line, (
        f"The weights are those of seed {trial.config['seed']}, whose config was chosen by its "
        f"validation loss. The {metric} is\nof data that the search never saw, over trainings "
        "with other seeds: that is what to expect of this config."
    )
