"""The word that goes out when a search ends."""

from __future__ import annotations

import os
import shlex
import subprocess

from rich.console import Console

from search.history.book import Book
from search.history.folder import Folder
from search.spec.spec import SearchSpec

STDERR = 2  # its file descriptor
NOTIFY_SECONDS = 60  # that the command of `notify` may take


def notify(spec: SearchSpec, book: Book, folder: Folder, console: Console) -> None:
    """Run the command that the spec wants run at the end. That it fails is said, no more.

    What it prints goes to stderr, since stdout may be JSON.
    """
    if spec.notify is None:
        return
    told = {"DIFFSWEEP_SEARCH": folder.id, "DIFFSWEEP_STATE": book.state}
    env = {**os.environ, **told}
    try:
        subprocess.run(  # noqa: S603
            shlex.split(spec.notify), env=env, stdout=STDERR, timeout=NOTIFY_SECONDS, check=True
        )
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        console.print(f"[yellow]warning:[/] notify: {error}")
