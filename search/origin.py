"""Where the numbers of a search come from, and the word that goes out when it ends."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from search.history import Book
from search.home import Folder
from search.shipping import digest as code_digest
from search.spec import SearchSpec
from trainable.datasets import Data

PACKAGES = ("diffsweep", "torch", "ray", "optuna", "mlflow")
STDERR = 2  # its file descriptor
NOTIFY_SECONDS = 60  # that the command of `notify` may take


def origin(spec: SearchSpec, data: Data) -> dict[str, Any]:
    """Versions and a fingerprint of the data."""
    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in PACKAGES},
        "data": data.fingerprint,
        **({"code": "-".join(code_digest(Path(path)) for path in spec.code)} if spec.code else {}),
    }


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def compare(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What is not as it was when the search began."""
    for key, value in now.items():
        if before.get(key, value) != value:
            if key == "data":
                yield "the data is not what the search began with; old and new trials differ"
            elif key == "code":
                yield "your code is not what the search began with; old and new trials differ"
            else:
                yield f"{key} was {before[key]} when the search began, and is {value} now"


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
