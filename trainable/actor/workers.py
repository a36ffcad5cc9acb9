"""GangTrial: a training by several workers as Ray Tune runs it, and a worker as Ray runs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
from ray import ObjectRef, tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

LOST = "lost"  # how a worker tells that it was left alone
GRACE = 10.0  # seconds that the others have to tell what they know, once one has failed


class WorkerLost(Exception):
    """A worker's process is gone or hangs: the trial's is to be started again."""


class GangTrial(tune.Trainable):
    """Hands each step on to its workers, and their first one's result back.

    This process trains nothing and holds no resources. Each worker has a bundle of the trial's
    placement group, and ends with this process. They stay for the next trial, but for those of a
    failed one: no neighbour may wait for them.
    """

    def setup(self, config: dict[str, Any], **gang: Any) -> None:
        """`gang`: {"data": [a reference to it], "size": workers, "need": options of each}."""
        self.data, self.size, self.need = gang["data"][0], gang["size"], gang["need"]
        self.workers: list[Any] = []
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another trial; the next step begins it."""
        self.given: dict[str, Any] | None = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Raises WorkerLost, which Tune takes for the loss of the trial's process."""
        if self.given is not None:
            given, self.given = self.given, None
            if not self.workers:
                self.hire(given["trial"]["device"])
            if failure := self.ask("begin", given):
                return failure
        return self.ask("step")

    def hire(self, device: str) -> None:
        """Start the workers, and have them meet."""
        group = ray.util.get_current_placement_group()
        assert group is not None
        for rank in range(self.size):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            worker = ray.remote(Worker).options(scheduling_strategy=place, **self.need)
            self.workers.append(worker.remote(self.data, rank, self.size, self.logdir))
        meeting = ray.get(self.workers[0].open.remote())
        self.ask("join", *meeting, device)

    def ask(self, method: str, *arguments: Any) -> dict[str, Any]:
        """Have all workers do it. What the first one answers, or how one failed."""
        calls = [getattr(worker, method).remote(*arguments) for worker in self.workers]
        answers: dict[int, dict[str, Any]] = {}
        deadline = None
        while len(answers) < self.size:
            waiting = [call for rank, call in enumerate(calls) if rank not in answers]
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _ = ray.wait(waiting, timeout=left)
            if not ready:
                break
            rank = calls.index(ready[0])
            answers[rank] = answer(ready[0])
            if answers[rank].get("failure") and deadline is None:
                deadline = time.monotonic() + GRACE
        if deadline is None:
            return answers[0]
        self.dismiss()
        failures = [answers[rank] for rank in sorted(answers) if answers[rank].get("failure")]
        return verdict(failures)

    def dismiss(self) -> None:
        """End the workers' processes, whatever they wait for."""
        for worker in self.workers:
            ray.kill(worker)
        self.workers = []

    def cleanup(self) -> None:
        self.dismiss()


def answer(call: ObjectRef[dict[str, Any]]) -> dict[str, Any]:
    """What a worker answers; a failure where its process is gone."""
    try:
        told: dict[str, Any] = ray.get(call)
        return told
    except ray.exceptions.OutOfMemoryError as error:
        return {"failure": "oom", "why": ended_by_ray(str(error))}
    except ray.exceptions.RayError as error:
        return {"failure": LOST, "why": f"a worker's process was lost: {error}"}


def ended_by_ray(error: str) -> str:
    """Of what Ray's memory monitor says, the line that holds the numbers."""
    lines = [line.partition(": ")[2] for line in error.splitlines() if "kill reason" in line]
    return f"the host ran out of memory, so Ray ended the process. {lines[0] if lines else ''}"


def verdict(failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Why a gang failed: what one of them has met, rather than that the others miss it.

    Raises:
        WorkerLost: none has met anything but the silence of others.
    """
    met = [failure for failure in failures if failure["failure"] != LOST]
    if not met:
        raise WorkerLost("\n".join(failure["why"] for failure in failures))
    return met[0]


class Worker:
    """One worker of a gang, in a process of its own."""

    def __init__(self, data: Any, rank: int, size: int, logdir: str) -> None:
        # here, so that GangTrial's process needs no torch
        from trainable.actor.trial import Training
        from trainable.base.device import settle

        settle()
        self.rank, self.size = rank, size
        self.host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self.training = Training()
        self.training.data, self.training.logdir = data, logdir
        Path(logdir).mkdir(parents=True, exist_ok=True)  # this may be another host

    def open(self) -> tuple[str, int]:
        """Of the first worker: where the others find it."""
        from trainable.parallel.gang import meet

        self.store, port = meet(self.host, self.size)
        return self.host, port

    def join(self, host: str, port: int, device: str) -> dict[str, Any]:
        from trainable.base.device import pick_device
        from trainable.parallel.gang import Workers, find

        store = self.store if self.rank == 0 else find(host, port, self.size)
        place = pick_device(device)
        self.training.gang = Workers(store, self.rank, self.size, place, self.host)
        return {}

    def begin(self, config: dict[str, Any]) -> dict[str, Any]:
        """Take on a trial; the failure, if that fails."""
        self.training.begin(config)
        return self.step() if self.training.failure else {}

    def step(self) -> dict[str, Any]:
        result = self.training.step()
        if "failure" in result:
            self.training.gang.leave()
        return result
