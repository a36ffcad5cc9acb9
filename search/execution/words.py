"""What Tune and its libraries say, sent to a log in which every line has its time."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from trainable.actor.output import stamp

RAYS = ("ray.tune", "ray.train", "ray.air")  # loggers of what runs trials


class Stamped(io.TextIOBase):
    """A text file whose every line begins with the time at which it was written."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.fresh = file, True

    def write(self, text: str) -> int:
        for part in text.splitlines(keepends=True):
            self.file.write(f"{stamp()} {part}" if self.fresh else part)
            self.fresh = part.endswith("\n")
        self.file.flush()
        return len(text)

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def rays_words(log: TextIO | Stamped) -> Iterator[None]:
    """Send what Tune logs to a file: of a process that died, and of snapshots that it lacks.

    What becomes of a trial is told by the history, and an error of the search is raised.
    """
    handler, loggers = logging.StreamHandler(log), [logging.getLogger(name) for name in RAYS]
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False  # the handler of "ray" writes to the terminal
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
