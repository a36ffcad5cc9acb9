"""DiffusionTrial: a training as Ray Tune runs it."""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainable.actor import checkpoint
from trainable.actor.kept import GRID, Kept, Superseded
from trainable.actor.output import capture
from trainable.base.device import free_memory, limit_memory, settle
from trainable.base.durable import fault_of_the_disk
from trainable.base.shelf import cause, use_code
from trainable.base.storage import StorageError
from trainable.config import TrialConfig
from trainable.data.parts import Data
from trainable.parallel.gang import Gang, GangBroken
from trainable.quality.measure import finish
from trainable.report import next_report, report
from trainable.train import TrainState, train_until

# of the CPU; of CUDA outside PyTorch's allocator; of cuBLAS and its like
NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
MOST_TEXT = 4000  # letters of a traceback that go with its cause
LOST_EVERY = 3600.0  # seconds between two losses of a process, on hosts that come and go


class Training:
    """Trains up to the next report in each `step`.

    Its config is {"trial": a TrialConfig, "rungs": [samples, ...], "folder": where it writes,
    "test": whether it is measured on the test part too,
    "capture": whether what the process prints goes to the trial's folder,
    "kept_if": {"metric", "mode", "bound"} that its end must reach for its last checkpoint to be
    kept, or None where it is kept anyhow,
    "known": samples up to which its reports are in the history}, and with a storage
    also {"storage": the trial's own part of it, "session": of the search}; then it writes there,
    from any host.
    A result holds {"report": metrics, "finished": bool}, or {"failure": kind, "why": text}: an
    error of the user's code ("code"), too little memory ("oom"), a storage that is gone
    ("storage"), a disk without room ("disk") or another process that has taken the trial over
    ("superseded") is a result, so that only a lost process is retried by Ray.
    A trial that has a checkpoint goes on from it, and reports again what is not known, the last
    report at least: a driver whose host lost its power may have lost some that it had received.
    Of a gang, each worker runs one, and the first one alone writes; a gang that has broken is a
    failure ("lost"), too.
    """

    data: Data
    logdir: str  # where it has room of its own
    gang = Gang()
    kept: Kept | None = None  # its checkpoints in storage
    broken = False  # after some errors CUDA answers nothing any more in a process

    def begin(self, config: dict[str, Any]) -> None:
        self.state: TrainState | None = None
        self.failure: dict[str, str] | None = None
        self.reports: list[dict[str, Any]] = []  # the last ones, for checkpoints
        self.repeat: list[dict[str, Any]] = []
        self.let_go()
        free_memory()
        try:
            self.folder = Path(config["folder"])
            if (storage := config.get("storage")) is not None:
                self.folder = Path(tempfile.mkdtemp(dir=self.logdir))
                self.kept = Kept(storage, config["session"], self.folder)
            if config.get("capture"):
                capture(self.folder)
            self.rungs: list[int] = config["rungs"]
            self.kept_if: dict[str, Any] | None = config.get("kept_if")
            trial = TrialConfig.model_validate(config["trial"])
            use_code(trial.code)
            limit_memory(config.get("gpu", 0))
            self.state = TrainState(trial, self.data, config.get("test", False), self.gang)
            self.go_on(self.state, config.get("known", 0))
        except Exception as error:
            self.fail(error)
        self.saved_at, self.save_seconds = time.monotonic(), 0.0

    def go_on(self, state: TrainState, known: int) -> None:
        """Go on from the newest checkpoint, if there is one."""
        path = self.folder / checkpoint.NAME if self.kept is None else self.kept.restore()
        if path is not None and path.exists():
            self.reports = checkpoint.load(state, path)
            self.repeat = [r for r in self.reports[:-1] if r["samples"] > known]
            self.repeat += self.reports[-1:]
        if self.kept is not None and path is not None:
            path.unlink()
        if not self.gang.same(state.step):
            raise GangBroken("not all of the trial's workers see the same checkpoint")

    def take_over(self, state: TrainState) -> None:
        """Claim the trial at the first step, since Tune may make two processes ready for a trial
        that lost its own, and lets one of them take steps."""
        if self.kept is not None and self.kept.attempt is None and not self.gang.rank:
            self.kept.claim(state.samples)

    def step(self) -> dict[str, Any]:
        try:
            if self.state is not None:
                self.take_over(self.state)
                if self.repeat:
                    return self.result(self.repeat.pop(0))
                return self.result(self.advance())
        except Exception as error:
            self.fail(error)
        assert self.failure is not None
        free_memory()  # here, since the error that is behind us held the tensors too
        return {"failure": self.failure["kind"], "why": self.failure["why"]}

    def advance(self) -> dict[str, Any]:
        """Train up to the next report, and save if it is time."""
        state = self.state
        assert state is not None
        target, at_rung = next_report(state.config, self.rungs, state.samples)
        train_until(state, target)
        metrics = report(state) | {"diverged_at": state.diverged_at}
        if self.gang.rank:
            return metrics
        finished = state.samples >= state.config.samples
        if finished and state.diverged_at is None:
            metrics = finish(state, metrics, self.folder / GRID)
            self.keep_grid()  # first, since who goes on from the checkpoint draws none
        if state.diverged_at is None and self.is_wanted(metrics, finished, at_rung):
            self.write_checkpoint(metrics)
        self.reports = [*self.reports, metrics][-checkpoint.TAIL :]
        if self.kept is not None and (at_rung or finished):
            self.kept.wait()  # it may go on from there elsewhere, as soon as this is reported
        return metrics

    def result(self, metrics: dict[str, Any]) -> dict[str, Any]:
        assert self.state is not None
        return {"report": metrics, "finished": metrics["samples"] >= self.state.config.samples}

    def keep_grid(self) -> None:
        """Bring the picture of its samples to storage, where there is one."""
        if self.kept is not None and (grid := self.folder / GRID).exists():
            self.kept.storage.upload(grid, GRID)

    def is_wanted(self, metrics: dict[str, Any], finished: bool, at_rung: bool) -> bool:
        """Whether somebody may go on from here, or take these weights."""
        if not finished:
            return at_rung or self.save_is_due()
        if self.kept_if is None or (value := metrics.get(self.kept_if["metric"])) is None:
            return True
        bound: float = self.kept_if["bound"]
        return bool(value <= bound if self.kept_if["mode"] == "min" else value >= bound)

    def save_is_due(self) -> bool:
        if self.kept is not None and self.kept.busy:
            return False
        # Young (1974): where saves, and the work that is done again, together cost least
        wait = math.sqrt(2 * self.save_seconds * LOST_EVERY)
        return time.monotonic() - self.saved_at >= wait

    def write_checkpoint(self, metrics: dict[str, Any]) -> None:
        assert self.state is not None
        began, path = time.monotonic(), self.folder / checkpoint.NAME
        if self.kept is not None:
            self.kept.wait()
        checkpoint.save(self.state, path, metrics, self.reports)
        if self.kept is not None:
            self.kept.put(path, self.state.samples)
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - began

    def fail(self, error: Exception) -> None:
        """Keep what went wrong as this trial's result, and let go of its memory."""
        text = "".join(traceback.format_exception(error))
        with suppress(OSError):  # the disk may be full
            print(text, flush=True)
        why = f"{cause(error)}\n{text[-MOST_TEXT:]}"
        kind = "oom" if is_out_of_memory(error) else "code"
        if isinstance(error, GangBroken):
            kind = "lost"
        if isinstance(error, StorageError):
            kind, why = "storage", str(error)
        elif isinstance(error, Superseded):
            kind, why = "superseded", str(error)
        elif fault := fault_of_the_disk(error):
            kind, why = "disk", f"{platform.node()}: {fault}"
        self.failure = {"kind": kind, "why": why}
        self.broken = kind == "code" and isinstance(error, torch.AcceleratorError)
        self.state = None
        self.keep_output()

    def cleanup(self) -> None:
        self.state = None
        self.let_go()

    def let_go(self) -> None:
        """Write to no storage any more."""
        if self.kept is not None:
            self.keep_output()
            self.kept.close()
            shutil.rmtree(self.kept.local, ignore_errors=True)
            self.kept = None

    def keep_output(self) -> None:
        """Bring what was printed to storage, where there is one; not worth the trial's end."""
        try:
            if self.kept is not None:
                self.kept.put_output()
        except StorageError as error:
            print(f"output not kept: {error}", flush=True)


class DiffusionTrial(Training, tune.Trainable):
    """A trial of one worker."""

    def setup(self, config: dict[str, Any], data: Data | None = None) -> None:
        assert data is not None
        settle()
        self.data = data
        self.begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another trial in the same process, with the memory of the first given back."""
        if self.broken:  # Tune misses the process, and starts the trial again in another
            os._exit(1)
        self.begin(new_config)
        return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the device or the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)
