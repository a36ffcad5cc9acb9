"""`check --smoke`: a few real steps of each optimizer, before a night is spent on the search."""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from search.errors import BadInput, SearchFailed
from search.execution.local import concurrency
from search.execution.ready import first_config, read_data, try_trial
from search.forecast.plan import plan
from search.spec.spec import SearchSpec
from trainable.actor import checkpoint
from trainable.base.device import free_memory, pick_device
from trainable.base.shelf import told
from trainable.config import TrialConfig
from trainable.contract import broken
from trainable.data.parts import Data
from trainable.report import RAW, report, validate
from trainable.train import TrainState, train_until

STEPS = 6  # of a training; it is cut after half of them, and resumed
TOLERANCE = {"cpu": 0.0}  # largest difference of a resumed training; elsewhere kernels may differ
ELSEWHERE = 1e-3


def smoke(spec: SearchSpec) -> dict[str, Any]:
    """Train a few steps with every optimizer of the spec, on its own data and model.

    Raises:
        BadInput: the data, the model or an optimizer won't do, or a trial does not fit here.
    """
    concurrent, data = concurrency(spec), read_data(spec)
    try_trial(spec, data)
    rows = {name: rehearse(first_config(spec, name), data) for name in spec.optimizers}
    notes = model_notes(spec, data)
    batch = spec.trial.batch_size
    one_training = [
        spec.trial.steps * row["seconds_per_step"]
        + spec.trial.steps / spec.trial.report_every * row["seconds_per_validation"]
        for row in rows.values()
    ]
    trainings = plan(spec)["full_trainings"]
    seconds = trainings * sum(one_training) / len(one_training) / concurrent
    return {
        "data": {
            "shape": list(data.shape),
            "classes": data.classes,
            "examples": [len(part.x) for part in data.parts],
            "notes": list(data.notes),
        },
        "model": {"notes": notes},
        "optimizers": rows,
        "batch_size": batch,
        "concurrent": concurrent,
        "workers": spec.resources.workers,
        "estimated_seconds": seconds,
    }


def model_notes(spec: SearchSpec, data: Data) -> list[str]:
    """What the model does not keep to of what models should; of an own loss, nothing is known."""
    if spec.trial.loss is not None:
        return []
    try:
        return broken(spec.trial, data, pick_device(spec.trial.device))
    except Exception as error:  # it trained before; what it does with other examples is no fault
        return [f"the model's contract could not be tried: {told(error)}"]
    finally:
        free_memory()


def rehearse(config: TrialConfig, data: Data) -> dict[str, Any]:
    """A few steps without a break, and the same steps with a checkpoint in their middle."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = TrainState(config, data)
            train_until(whole, config.batch_size)  # the first step is slower
            began = time.perf_counter()
            train_until(whole, STEPS * config.batch_size)
            per_step = (time.perf_counter() - began) / max(1, whole.step - 1)
            began = time.perf_counter()
            metrics = report(whole)
            per_validation = time.perf_counter() - began
            return {
                "seconds_per_step": per_step,
                "seconds_per_validation": per_validation,
                "diverged_at": whole.diverged_at,
                "resume_difference": resume_difference(whole, Path(folder) / checkpoint.NAME),
                "device": whole.device.type,
                **{key: metrics[key] for key in ("parameters", "val_loss", "optimizer_bytes")},
                "peak_memory_bytes": metrics["peak_memory_bytes"],
            }
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise BadInput(f"{config.optimizer.type}: out of memory: {told(error)}") from error
    except Exception as error:
        raise BadInput(f"{config.optimizer.type}: {told(error)}") from error
    finally:
        free_memory()


def resume_difference(whole: TrainState, path: Path) -> float:
    """How far a training that was cut and resumed is from `whole`: 0 where it is the same.

    The largest relative difference of any weight tensor, and of the validation loss.
    """
    config, data = whole.config, whole.data
    state = TrainState(config, data)
    train_until(state, STEPS // 2 * config.batch_size)
    checkpoint.save(state, path, None)
    torch.rand(3)  # what happens in between must not matter
    state = TrainState(config, data)
    checkpoint.load(state, path)
    train_until(state, STEPS * config.batch_size)
    pairs = zip(whole.model.parameters(), state.model.parameters(), strict=True)
    differences = [_relative(ours, theirs) for ours, theirs in pairs]
    losses = (torch.tensor(validate(one, RAW)) for one in (whole, state))
    return max(*differences, _relative(*losses))


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference in units of the largest value; two NaN are no difference."""
    a, b = a.detach().float(), b.detach().float()
    if torch.equal(a.nan_to_num(), b.nan_to_num()):
        return 0.0
    return ((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).item()


def faults(found: dict[str, Any]) -> list[str]:
    """What a smoke test found to be wrong."""
    if any(row["diverged_at"] == 0 for row in found["optimizers"].values()):
        return [
            "the gradient of the very first batch is not finite: the model or its loss answers "
            "NaN or infinity before anything is trained"
        ]
    return [
        f"{name}: a training that is resumed from its checkpoint differs from the unbroken one "
        f"by {row['resume_difference']:.2g}: the model, its data or the optimizer keeps state "
        "that is neither in its state_dict nor in torch's generators"
        for name, row in found["optimizers"].items()
        if not row["resume_difference"] <= TOLERANCE.get(row["device"], ELSEWHERE)
    ]


def show_smoke(found: dict[str, Any], console: Console) -> None:
    """The rehearsal as a table, then what the search will take."""
    data = found["data"]
    train, validation, test = data["examples"]
    shape = " x ".join(map(str, data["shape"]))
    classes = f", {data['classes']} classes" if data["classes"] else ""
    console.print(
        f"data: {train} examples of {shape} to train{classes}, {validation} + {test} held out"
    )
    for note in (*data["notes"], *found["model"]["notes"]):
        console.print(f"note: {note}")
    table = Table(title=f"{STEPS} steps of each optimizer", title_justify="left")
    for column in ("optimizer", "ms/step", "resumed", "peak memory", "state", "val_loss"):
        table.add_column(column, justify="right")
    for name, row in found["optimizers"].items():
        diverged = row["diverged_at"]
        table.add_row(
            name,
            f"{1000 * row['seconds_per_step']:.1f}",
            "equal" if not row["resume_difference"] else f"off by {row['resume_difference']:.1g}",
            f"{row['peak_memory_bytes'] / 1e6:,.0f} MB",
            f"{row['optimizer_bytes'] / 1e6:,.1f} MB",
            f"{row['val_loss']:.4f}" if diverged is None else f"diverged at step {diverged}",
        )
    console.print(table)
    shared = f", with one worker instead of {n}" if (n := found["workers"]) > 1 else ""
    time_left = timedelta(seconds=round(found["estimated_seconds"]))
    console.print(
        f"The whole search will take about {time_left} with {found['concurrent']} trials at once, "
        "each as fast as this one was alone" + shared + "."
    )


def check_smoke(found: dict[str, Any]) -> None:
    """Raises SearchFailed, a line for each fault that the smoke test found."""
    if told_faults := faults(found):
        raise SearchFailed(*told_faults)
