"""Examples in .npy files, here or on S3: data that is larger than memory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from trainable.data.loaders.files import LeftOut, walk
from trainable.data.returned import Loaded
from trainable.data.sharded import Shard, Sharded

KIND = "dataset shards"
LABELS = ".labels.npy"  # beside `name.npy`, the labels or conditions of its examples


def load_shards(path: str, labels: bool, cache: str | None) -> Any:
    """The examples of all .npy files under `path`, in the order of their names.

    Raises:
        ValueError: there are none, or they don't fit together; the message names the file.
    """
    folder = fetch(path, cache) if path.startswith("s3://") else Path(path)
    left_out = LeftOut()
    found = list(walk(folder, lambda name: name.lower().endswith(".npy"), left_out, KIND))
    files = [file for file in found if not file.name.endswith(LABELS)]
    for file in found:
        if file.name.endswith(LABELS) and not labels:
            left_out.add(str(file.relative_to(folder)), LABELS)
    said = left_out.note()
    if not files:
        raise ValueError(f"{KIND}: no .npy files under {path}{said and '; ' + said}")
    notes = (said,) if said else ()
    x = Sharded(alike([shard(file) for file in files]))
    if not labels:
        return Loaded(x, notes=notes)
    beside = [shard(file.with_name(file.stem + LABELS)) for file in files]
    for examples, given in zip(x.shards, beside, strict=True):
        if examples.shape[0] != given.shape[0]:
            raise ValueError(
                f"{KIND}: {given.path} has {given.shape[0]} rows, but "
                f"{examples.path} has {examples.shape[0]}"
            )
    return Loaded(x, of_labels(alike(beside)), notes=notes)


def shard(file: Path) -> Shard:
    """An .npy file as a shard; nothing of it is read but its header.

    Raises:
        ValueError: it is not there, holds objects, or is cut off.
    """
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        return Shard.of(array)
    except Exception as error:  # of a header that is broken: anything
        raise ValueError(f"{KIND}: {file}: {error}") from error


def alike(shards: list[Shard]) -> tuple[Shard, ...]:
    """Shards whose examples have one shape and type.

    Raises:
        ValueError: one of them differs from the first.
    """
    first = shards[0]
    for other in shards[1:]:
        if (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
            raise ValueError(
                f"{KIND}: {other.path} has examples {other.shape[1:]} of "
                f"{np.dtype(other.dtype)}, but {first.path} has {first.shape[1:]} of "
                f"{np.dtype(first.dtype)}"
            )
    if not first.shape:
        raise ValueError(f"{KIND}: {first.path} holds a single number, not examples")
    some = tuple(shard for shard in shards if shard.shape[0])
    return some or tuple(shards[:1])


def of_labels(shards: tuple[Shard, ...]) -> Any:
    """Conditions stay in their files; classes, eight bytes each, are read."""
    if np.dtype(shards[0].dtype).kind == "f":
        return Sharded(shards)
    return np.concatenate([shard.open() for shard in shards])


def fetch(address: str, cache: str | None) -> Path:
    """Bring the .npy files below an s3:// address to this host, once; where they lie.

    Raises:
        ValueError: they can't be listed or fetched.
    """
    from pyarrow import fs

    from trainable.data.loaders import remote

    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    folder = Path(cache or Path.home() / ".cache" / "diffsweep").expanduser() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store, prefix = remote.open_address(address)
        found = store.get_file_info(fs.FileSelector(prefix, recursive=True))
        wanted = [info for info in found if info.is_file and info.path.endswith(".npy")]
        with (folder / ".lock").open("w") as lock, ThreadPoolExecutor(8) as pool:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another trial of this host may fetch them too
            list(pool.map(lambda info: bring(store, info, prefix, folder), wanted))
    except (OSError, ValueError) as error:
        raise ValueError(f"{KIND}: can't fetch {address}: {error}") from error
    return folder


def bring(store: Any, info: Any, prefix: str, folder: Path) -> None:
    """Copy one file, unless it is here in its size."""
    target = folder / info.path.removeprefix(prefix).strip("/")
    if target.exists() and target.stat().st_size == info.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with store.open_input_stream(info.path) as source, draft.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    draft.replace(target)
