"""Why a trial's process is gone, where Ray knows more than Tune makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial as TuneTrial

from trainable.actor.workers import ended_by_ray

MONITOR = "running low on memory"  # what Ray says when its memory monitor has ended a process


class ProcessLost(RayActorError):
    """A trial's process is gone, for a reason that Ray counts among neither kind of error."""

    def __init__(self, cause: str) -> None:
        super().__init__(error_msg=cause)


class Actors(RayActorManager):
    """Tune's manager of processes; Ray's own ends all trials when memory ran out in one (2.56)."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, RayActorError | RayTaskError
        ):
            exception = ProcessLost(str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


def without_memory(trial: TuneTrial) -> str | None:
    """Where Ray ended a trial's process because its host had no memory left: what it says."""
    if not trial.error_file:
        return None
    newest = Path(trial.error_file).read_text().rpartition("Failure # ")[2]
    return ended_by_ray(newest) if MONITOR in newest else None
