"""What a trial's process prints, kept in the trial's folder."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

NAME = "output.log"
FORMAT = "%Y-%m-%d %H:%M:%S"


def stamp() -> str:
    """The local time, as it begins a line."""
    return time.strftime(FORMAT)


def capture(folder: Path) -> None:
    """Let all that this process prints from now on go to the trial's file, C code's words too."""
    folder.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    file = os.open(folder / NAME, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
    say(f"process {os.getpid()} on {socket.gethostname()} takes this trial")


def say(text: str) -> None:
    """A line with the time; lines without one belong to the one before them."""
    print(stamp(), text, flush=True)
