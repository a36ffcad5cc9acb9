"""Requests to a driver, from other processes: files in the folder of its search.

A request waits until a driver takes it up: the one that runs, or the one of the next resume.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

from search.home import Folder

Request = dict[str, Any]  # {"verb": "stop" | "cancel" | "kill" | "add", ...}


def send(folder: Folder, verb: str, **content: Any) -> None:
    """Leave a request; a reader never sees a part of it."""
    folder.requests.mkdir(exist_ok=True)
    name = f"{time.time_ns():020d}-{secrets.token_hex(2)}"
    draft = folder.requests / f".{name}"
    draft.write_text(json.dumps({"verb": verb, **content}))
    draft.replace(folder.requests / f"{name}.json")


def take(folder: Folder) -> Iterator[Request]:
    """The requests in the order in which they came; each is gone when the next is asked for.

    So what a request leads to is written down before the request is forgotten.
    """
    if not folder.requests.is_dir():
        return
    for name in sorted(os.listdir(folder.requests)):
        path = folder.requests / name
        if path.suffix == ".json":
            yield json.loads(path.read_text())
            path.unlink(missing_ok=True)
