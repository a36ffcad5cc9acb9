"""Requests to a driver, from other processes: files in the folder of its search.

A request waits until a driver takes it up: the one that runs, or the one of the next resume. With
a storage it is left there, for the driver may be on another machine.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

from search.history.folder import Folder
from search.history.lock import DriverLock
from trainable.base.durable import replace

REQUESTS = "requests/"  # in storage
VERBS = ("stop", "cancel", "kill", "add")
Request = dict[str, Any]  # {"verb": one of VERBS, "session": int | None, "id": str, ...}
logger = logging.getLogger("diffsweep.control")


def send(folder: Folder, verb: str, session: int | None = None, **content: Any) -> None:
    """Leave a request; a reader never sees a part of it.

    With a `session` it is for that session of the search alone: a later one forgets it.
    """
    name = f"{time.time_ns():020d}-{secrets.token_hex(2)}.json"
    request = json.dumps({"verb": verb, "session": session, **content}).encode()
    if folder.storage is not None and not DriverLock.held(folder.lock):
        folder.storage.write(REQUESTS + name, request)
    else:
        leave(folder, name, request)


def leave(folder: Folder, name: str, request: bytes) -> None:
    folder.requests.mkdir(exist_ok=True)
    replace(folder.requests / name, request)


def bring_requests(folder: Folder, brought: set[str]) -> None:
    """Bring requests from storage to the folder, where the driver looks, and remember which.

    One that the driver has taken up is deleted in storage, after what came of it was written down.
    """
    assert folder.storage is not None
    for name in folder.storage.names(REQUESTS):
        local = folder.requests / name.removeprefix(REQUESTS)
        if name not in brought:
            leave(folder, local.name, folder.storage.read(name))
            brought.add(name)
        elif not local.exists():
            folder.storage.delete(name)


def take(folder: Folder) -> Iterator[Request]:
    """The requests in the order in which they came; each is gone when the next is asked for.

    So what a request leads to is written down before the request is forgotten; its `id` tells
    whether that happened already. One that can't be read is forgotten with a word.
    """
    if not folder.requests.is_dir():
        return
    for name in sorted(os.listdir(folder.requests)):
        path = folder.requests / name
        if path.suffix != ".json":
            continue
        try:
            request = {"session": None, **json.loads(path.read_text()), "id": path.stem}
            known = request["verb"] in VERBS
        except (ValueError, TypeError, KeyError):
            known = False
        if known:
            yield request
        else:
            logger.warning("%s: is no request, and is forgotten", path)
        path.unlink(missing_ok=True)
