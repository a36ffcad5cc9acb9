"""The engine as Ray Tune sees it: a searcher, a scheduler and a callback that ask it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.engine.engine import Engine
from search.errors import Fenced, StorageAway
from search.execution.ahead import Ahead
from search.execution.lost import without_memory
from search.history.book import Trial
from search.history.control import Request, take
from search.history.folder import Folder
from search.history.shipping import moved
from trainable.base.durable import fault_of_the_disk
from trainable.base.opening import open_storage

REPORT = "report/"  # Tune hands results on with nested keys joined by slashes
LOOK_EVERY = 0.5  # seconds between looks at requests and at trials that hang
UPLOAD_ATTEMPTS = 40  # of a trial to reach the storage, some ten minutes in all


class Adapter:
    """What the three have in common. Tune pickles them for a restore that is never used."""

    engine: Engine

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def end_without_memory(self, tune_trial: TuneTrial) -> bool:
        """End a trial that its host had too little memory for; whether it was one."""
        number, why = tune_trial.config["number"], without_memory(tune_trial)
        if why is not None and number in self.engine.active:
            self.engine.end(number, "failed", f"oom: {why}")
        return why is not None

    def fail(self, error: Exception) -> None:
        """End the search with this error, which Tune would bury under tracebacks of its own."""
        if fault := fault_of_the_disk(error):
            error = StorageAway(
                f"infrastructure: {fault}; `diffsweep resume {self.engine.book.id}` goes on when "
                "there is room"
            )
        if self.engine.error is None and isinstance(error, StorageAway | Fenced):
            interrupt_tune()  # what trials do from here on can't be kept
        self.engine.stopping, self.engine.error = "an error", self.engine.error or error


class EngineSearcher(Adapter, Searcher):
    """Hands Tune the engine's next trial while fewer than `concurrent` are at work."""

    def __init__(
        self,
        engine: Engine,
        folder: Folder,
        concurrent: int,
        places: dict[str, str],
        ahead: Ahead,
        kept_if: Callable[[Trial], dict[str, Any] | None] = lambda trial: None,
    ) -> None:
        super().__init__()
        self.engine, self.folder, self.concurrent = engine, folder, concurrent
        self.ahead, self.kept_if = ahead, kept_if
        self.places = places  # of the user's code, where it is not as it was
        self.at_work: dict[str, int] = {}  # Tune's trial id -> ours

    def suggest(self, trial_id: str) -> Any:
        if len(self.at_work) >= self.concurrent:
            return None
        try:
            trial = self.engine.next()
        except Exception as error:
            self.fail(error)
            trial = None
        if trial is None and self.at_work:  # their results may bring more
            self.ahead()  # a slot, and with it a processor, has nothing to do
            return None
        if trial is None:
            return Searcher.FINISHED
        self.at_work[trial_id] = trial.number
        return self._config(trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self.at_work.pop(trial_id, None)
        try:
            if error and number is not None:
                self.engine.give_up(number)
        except Exception as fault:
            self.fail(fault)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save: the history has it all."""

    def _config(self, trial: Trial) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        if self.folder.storage is not None:
            storage = open_storage(self.folder.storage.uri, UPLOAD_ATTEMPTS)
            stored = {
                "storage": storage.sub(f"trials/{trial.number}"),
                "session": self.engine.book.sessions,
            }
        return stored | {
            "number": trial.number,
            "known": trial.samples,
            "trial": moved(trial.config, self.places),
            "rungs": self.engine.rung_levels(trial),
            "folder": str(self.folder.trial(trial.number)),
            "capture": True,
            "kept_if": self.kept_if(trial),
            "gpu": self.engine.spec.resources.gpu,
            "test": trial.stage == "confirm",  # the search never sees the test part
        }


class EngineScheduler(Adapter, FIFOScheduler):
    """Passes each result to the engine, and its decision back to Tune."""

    def __init__(self, engine: Engine, on_end: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.engine, self.on_end = engine, on_end

    def on_trial_result(self, _: Any, tune_trial: TuneTrial, result: dict[str, Any]) -> str:
        number = tune_trial.config["number"]
        metrics = {k.removeprefix(REPORT): v for k, v in result.items() if k.startswith(REPORT)}
        try:
            if (failure := result.get("failure")) == "superseded":
                return str(self.STOP)  # another process works on the trial, and this one ends
            if failure in ("storage", "disk"):
                raise StorageAway(f"infrastructure: trial {number}: {result['why']}")
            if failure and number in self.engine.active:
                goes_on = self.engine.end(number, "failed", f"{failure}: {result['why']}")
            else:
                goes_on = not failure and self.engine.report(number, metrics)
            if not goes_on:
                self.on_end()
        except Exception as error:
            self.fail(error)
            goes_on = False
        decision: str = self.CONTINUE if goes_on else self.STOP
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """The first that waits; Tune's own looks through all that ever were, several times a
        trial."""
        live = tune_controller.get_live_trials()
        waiting = [trial for trial in live if trial.status == TuneTrial.PENDING]
        return min(waiting, key=lambda trial: trial.config["number"], default=None)

    def on_trial_error(self, _: Any, tune_trial: TuneTrial) -> None:
        self.end_without_memory(tune_trial)


class EngineCallback(Adapter, Callback):
    """Tells the engine that a trial has started, takes up requests, and ends trials that hang."""

    def __init__(self, engine: Engine, folder: Folder) -> None:
        self.engine, self.folder = engine, folder
        self.looked_at = 0.0

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        try:
            if not self.engine.begin(number := trial.config["number"]):
                self._kill(number, trials)
        except Exception as error:
            self.fail(error)

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        if not self.end_without_memory(trial):  # if it was, its next process is ended at once
            self.engine.lose(trial.config["number"])

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if time.monotonic() - self.looked_at < LOOK_EVERY:
            return
        self.looked_at = time.monotonic()
        try:
            self.engine.history.check()
            for request in take(self.folder):
                self._act_on(request, trials)
            for number in self.engine.hung():
                limit = self.engine.spec.trial_timeout
                self.engine.end(number, "failed", f"timeout: no report for {limit:g} seconds")
                self._kill(number, trials)
        except Exception as error:
            self.fail(error)

    def _act_on(self, request: Request, trials: list[TuneTrial]) -> None:
        engine = self.engine
        if request["session"] not in (None, engine.book.sessions):
            return  # it came too late for the driver that it was meant for
        match request["verb"]:
            case "stop":
                engine.ask_to_stop("stopped")
            case "cancel":
                engine.ask_to_stop("cancelled")
                interrupt_tune()
            case "kill" if engine.kill(request["trial"]):
                self._kill(request["trial"], trials)
            case "add":
                engine.add(request["chosen"], request["id"])

    def _kill(self, number: int, trials: list[TuneTrial]) -> None:
        """End the process of a trial from outside; Tune is not to start it again."""
        for trial in trials:
            if trial.config["number"] == number and trial.status in (
                TuneTrial.PENDING,
                TuneTrial.RUNNING,
            ):
                trial.max_failures = 0
                if (actor := trial.temporary_state.ray_actor) is not None:
                    ray.kill(actor)


def interrupt_tune() -> None:
    """Have Tune end at once and in order, in the way that it has for Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
