"""Gangs of plain processes, without Ray: a crew is started once, and forms a gang for each run."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from trainable.parallel.gang import Gang, Workers, find, meet

HOST = "127.0.0.1"
Job = Callable[..., Any]  # called with the gang, then the arguments


class Crew:
    """Processes that do jobs together."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.ends, self.processes = [], []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            self.ends.append(ours)
            self.processes.append(process)

    def run(self, size: int, job: Job, *arguments: Any, patience: float = 60) -> list[Any]:
        """What a job returns in each worker of a gang of this size; or what it raised."""
        store, port = meet(HOST, size)
        for rank, end in enumerate(self.ends[:size]):
            end.send((port, rank, size, patience, job, arguments))
        answers = [end.recv() for end in self.ends[:size]]
        del store
        return answers

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def serve(end: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        port, rank, size, patience, job, arguments = end.recv()
        gang = Gang()
        try:
            if size > 1:
                device = torch.device("cpu")
                gang = Workers(find(HOST, port, size), rank, size, device, HOST, patience)
            answer = job(gang, *arguments)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            answer = error
        gang.leave()
        end.send(answer)
