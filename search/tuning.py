"""The engine as Ray Tune sees it: a searcher, a scheduler and a callback that ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.engine import Engine
from search.history import Trial
from search.home import Folder

REPORT = "report/"  # Tune hands results on with nested keys joined by slashes


class Adapter:
    """What the three have in common. Tune pickles them for a restore that is never used."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class EngineSearcher(Adapter, Searcher):
    """Hands Tune the engine's next trial while fewer than `concurrent` are at work."""

    def __init__(self, engine: Engine, folder: Folder, concurrent: int) -> None:
        super().__init__()
        self.engine, self.folder, self.concurrent = engine, folder, concurrent
        self.at_work: dict[str, int] = {}  # Tune's trial id -> ours

    def suggest(self, trial_id: str) -> Any:
        if len(self.at_work) >= self.concurrent:
            return None
        trial = self.engine.next()
        if trial is None:  # while others are at work, their results may bring more
            return None if self.at_work else Searcher.FINISHED
        self.at_work[trial_id] = trial.number
        return self._config(trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self.at_work.pop(trial_id, None)
        if error and number is not None:
            why = f"its process was lost {self.engine.spec.retries + 1} times"
            self.engine.end(number, "failed", why)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save: the history has it all."""

    def _config(self, trial: Trial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "trial": trial.config,
            "rungs": self.engine.rung_levels(trial),
            "folder": str(self.folder.trial(trial.number)),
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
            if failure := result.get("failure"):
                goes_on = self.engine.end(number, "failed", f"{failure}: {result['why']}")
            else:
                goes_on = self.engine.report(number, metrics)
            if not goes_on:
                self.on_end()
        except Exception as error:  # Tune would bury it under tracebacks of its own
            self.engine.stopping, self.engine.error = "an error", error
            return str(self.STOP)
        decision: str = self.CONTINUE if goes_on else self.STOP
        return decision


class EngineCallback(Adapter, Callback):
    """Tells the engine that a trial's process has started."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self.engine.begin(trial.config["number"])
