"""What a trial does with the machine: memory that runs out, waiting, layout, compilation."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.specs import make_config
from torch.utils._python_dispatch import TorchDispatchMode

from trainable.actor import checkpoint
from trainable.actor.trial import DiffusionTrial
from trainable.base.device import limit_memory
from trainable.data.batches import fits
from trainable.data.parts import Data, Part
from trainable.report import report
from trainable.train import TrainState, train_until


def images(n: int = 64) -> Data:
    random = np.random.default_rng(0)
    parts = [Part(random.integers(0, 256, (k, 1, 8, 8)).astype(np.uint8), None) for k in (n, 8, 8)]
    return Data(*parts)


class Memory(torch.nn.Module):
    """Asks for more than there is, as soon as it is trained."""

    error: Any = None

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if isinstance(self.error, Exception):
            raise self.error
        if self.error == "asks":
            return x + torch.empty(1 << 50)
        return x * self.weight


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA error: out of memory"), "oom"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "oom"),
        ("asks", "oom"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "code"),
    ],
)
def test_memory_that_runs_out_is_a_result_and_the_next_trial_runs(
    error: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.models.unet.Memory", Memory, raising=False)
    config = make_config(model={"type": "trainable.models.unet:Memory"}).model_dump(mode="json")
    trial = DiffusionTrial.__new__(DiffusionTrial)
    trial.data = images()
    Memory.error = error
    trial.begin({"trial": config, "rungs": [], "folder": str(tmp_path / "0")})
    result = trial.step()
    assert result["failure"] == kind and trial.state is None
    assert str(error)[:20] in result["why"] or error == "asks"
    Memory.error = None
    trial.reset_config({"trial": config, "rungs": [], "folder": str(tmp_path / "1")})
    assert trial.step()["report"]["step"] == 4


def test_a_process_that_cuda_has_given_up_takes_on_no_other_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.models.unet.Memory", Memory, raising=False)
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    config = make_config(model={"type": "trainable.models.unet:Memory"}).model_dump(mode="json")
    trial = DiffusionTrial.__new__(DiffusionTrial)
    trial.data = images()
    Memory.error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    trial.begin({"trial": config, "rungs": [], "folder": str(tmp_path / "0")})
    assert trial.step()["failure"] == "code" and not ends
    Memory.error = None
    trial.reset_config({"trial": config, "rungs": [], "folder": str(tmp_path / "1")})
    assert ends == [1]


def test_a_trial_on_half_a_gpu_keeps_to_half_of_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares: list[float] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", shares.append)
    for share in (0.5, 1, 0, 2):
        limit_memory(share)
    assert shares == [0.475]


class Waits(TorchDispatchMode):
    """Counts the operations that make Python wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "_local_scalar_dense" in name or "nonzero" in name or "is_nonzero" in name:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_step_waits_for_nothing_but_the_watch_over_divergence(optimizer: str) -> None:
    state = TrainState(make_config({"type": optimizer, "lr": 1e-3}, clip_norm=1.0), images())
    train_until(state, state.config.batch_size)  # what is made once
    with Waits() as waits:
        train_until(state, 5 * state.config.batch_size)
    assert waits.seen == {"aten._local_scalar_dense.default": 4}  # on CUDA it reads a step late


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "muon", "schedulefree_adamw"])
@pytest.mark.parametrize("bad_step", [2, 3])  # in the middle, and the last before a report
def test_an_update_that_is_not_finite_is_masked_until_it_is_known(
    optimizer: str, bad_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA, with a copy that takes no time in place of the one beside the computation."""
    monkeypatch.setattr(
        "trainable.optimizers.divergence.send", lambda value: (value.clone(), lambda: None)
    )
    told = []
    for late in (False, True):
        state = TrainState(make_config({"type": optimizer, "lr": 1e-3}), images())
        state.watch.late = late
        spoil(state, bad_step)
        train_until(state, 4 * state.config.batch_size)
        metrics = report(state)
        told.append((state.diverged_at, state.step, metrics["train_loss"], metrics["grad_norm"]))
        states = [t for s in state.optimizer.state.values() for t in s.values()]
        averages = [t for average in state.emas.averages.values() for t in average.values()]
        tensors = [t for t in (*states, *averages) if isinstance(t, torch.Tensor)]
        for tensor in (*state.model.parameters(), *tensors):
            assert tensor.isfinite().all()
    assert told[0] == told[1] and told[0][:2] == (bad_step, bad_step)


def spoil(state: TrainState, bad_step: int) -> None:
    """Make the loss of one step infinite."""
    objective = state.objective

    def spoiled(network: Any, batch: Any) -> torch.Tensor:
        loss: torch.Tensor = objective(network, batch)
        return loss * math.inf if state.step == bad_step else loss

    state.objective = spoiled  # type: ignore[assignment]


def test_convolutions_are_laid_out_channels_last_and_stay_so() -> None:
    state = TrainState(make_config(model={"type": "unet", "channels": 8}), images())
    train_until(state, 2 * state.config.batch_size)
    weights = [w for w in state.model.parameters() if w.ndim == 4 and w.shape[2] == 3]
    assert weights
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    average = next(iter(state.emas.averages.values()))
    assert average["down.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)


def test_examples_in_shared_memory_are_not_copied_on_the_cpu() -> None:
    data = images()
    for part in data.parts:
        part.x.flags.writeable = False
    state = TrainState(make_config(), data)
    assert state.batches.x.data_ptr() == data.train.x.ctypes.data
    assert state.batches.x.dtype == torch.uint8
    train_until(state, 2 * state.config.batch_size)


def test_where_the_examples_lie_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for there in (True, False):
        monkeypatch.setattr("trainable.data.batches.fits", lambda x, device, there=there: there)
        state = TrainState(make_config(), images())
        train_until(state, state.config.samples)
        runs.append(torch.cat([weight.flatten() for weight in state.model.parameters()]))
    assert torch.equal(*runs)


def test_a_gpu_takes_the_examples_where_a_quarter_of_its_memory_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share, gpu = 1.0, torch.device("cuda")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (4000, 9000))
    monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda device: share)

    def of(count: int, conditions: int = 0) -> Data:
        labels = np.zeros(conditions // 4, np.float32) if conditions else None
        part = Part(np.zeros(count, np.uint8), labels)
        return Data(part, part, part)

    assert fits(of(1000), gpu) and not fits(of(1001), gpu)
    assert fits(of(600, 400), gpu) and not fits(of(601, 400), gpu)
    assert fits(of(1001), torch.device("cpu"))
    share = 0.25  # of 9000: less than what is free
    assert fits(of(562), gpu) and not fits(of(563), gpu)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_training_is_the_plain_one_up_to_rounding(tmp_path: Path) -> None:
    mlp = {"type": "mlp", "width": 16, "depth": 1}
    plain, compiled = (
        TrainState(make_config({"type": "sgd", "lr": 0.1}, model=mlp, compile=how), images())
        for how in (False, True)
    )
    for state in (plain, compiled):
        train_until(state, 4 * state.config.batch_size)
    ours, theirs = (report(state)["val_loss"] for state in (plain, compiled))
    assert compiled.forward is not compiled.model
    assert theirs == pytest.approx(ours, rel=1e-4)
    checkpoint.save(compiled, tmp_path / "checkpoint.pt", None)  # has the model's own names
    checkpoint.load(plain, tmp_path / "checkpoint.pt")
    train_until(plain, 8 * state.config.batch_size)
    assert plain.diverged_at is None and plain.step == 8
