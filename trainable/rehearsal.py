"""The life of a trial in small: what a search could lose its compute to, tried before it begins.

`check --smoke`, `run`, `submit` (on the cluster) and `train` all go through this.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from trainable.actor import checkpoint
from trainable.base.shelf import told
from trainable.config import TrialConfig
from trainable.data.parts import Data
from trainable.exported import Examples, load_network
from trainable.optimizers.eight_bit import EightBit
from trainable.report import RAW
from trainable.train import TrainState, train_until

FEW = 4  # examples of a step
WEIGHTS = "model.safetensors"


def rehearse(config: TrialConfig, data: Data) -> None:
    """Take a step, save, load, take another, export, and load the export; on the CPU, in small.

    Random streams are left as they were. What needs a GPU is not tried.

    Raises:
        ValueError: one of these fails; the message says which and why.
    """
    if isinstance(config.optimizer, EightBit):
        return
    small = {"device": "cpu", "compile": False, "micro_batch": None, "threads": None}
    batch = min(FEW, config.batch_size)
    config = config.model_copy(update={**small, "batch_size": batch, "ema": config.ema[:1]})
    name, model = config.optimizer.type, config.model.type
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="dsr-") as folder:
        path = Path(folder) / checkpoint.NAME
        with saying(f"{name}: a first step fails"):
            state = TrainState(config, data)
            train_until(state, batch)
        with saying(f"{name}: its training can't be saved"):
            checkpoint.save(state, path, None)
        with saying(f"{name}: its training can't be loaded from a checkpoint"):
            resumed = TrainState(config, data)
            checkpoint.load(resumed, path)
        with saying(f"{name}: a step after a checkpoint fails"):
            train_until(resumed, 2 * batch)
        with saying(f"trial.model: {model} can't be exported"):
            checkpoint.write_weights(path, RAW, path.with_name(WEIGHTS))
        with saying(f"trial.model: the export of {model} can't be loaded"):
            examples = Examples.read(path.with_name(WEIGHTS))
            scale, device = state.process.time_scale, state.device
            load_network(config.model, examples, scale, path.with_name(WEIGHTS), device)


@contextmanager
def saying(what: str) -> Iterator[None]:
    """What fails inside is told in one line, unless it was told already."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ValueError(f"{what.partition(': ')[0]}: out of memory: {told(error)}") from error
    except Exception as error:
        text = str(error)
        if isinstance(error, ValueError) and text.startswith(("optimizer ", "trial.")):
            raise
        kept = "; state may hold tensors, numbers, texts, and lists and mappings of them"
        hint = kept if "weights_only" in text or "Weights only" in text else ""
        raise ValueError(f"{what}: {told(error)}{hint}") from error
