"""What is made sure of about a storage before a search begins: one line for each way it fails."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from search.errors import BadInput
from trainable.base.opening import open_storage
from trainable.base.storage import Storage, StorageError

BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
MISTYPED = re.compile(r"^(s3):?/{1,3}(?=\w)|^s3:(?=\w)", re.IGNORECASE)
WANTED = "want a folder that all hosts share, or s3://bucket/prefix"
# file systems over a network, on which locks and write-ahead logs of SQLite can't be relied upon
NETWORK = ("nfs", "cifs", "smb", "glusterfs", "ceph", "lustre", "beegfs", "gpfs", "afs", "9p")
NETWORK_FUSE = ("sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "ceph", "juicefs")
MARGIN = 2  # times the space that is estimated must be free


def uri_fault(uri: str) -> str | None:
    """What is wrong with the address of a storage; secrets in it are not repeated."""
    if not uri.startswith("s3://") and (match := MISTYPED.match(uri)):
        return f"{uri}: did you mean s3://{uri[match.end() :].lstrip('/')}?"
    if "://" not in uri or uri.startswith("file:///"):
        return None
    parts = urlsplit(uri)
    if "@" in parts.netloc or parts.query:
        return (
            f"{parts.scheme}://...: credentials and settings don't belong in the address; set "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL in the environment"
        )
    if parts.scheme != "s3":
        return f"{uri}: {parts.scheme}:// is not supported; {WANTED}"
    if not BUCKET.match(parts.netloc):
        return f"{uri}: '{parts.netloc}' can't be the name of a bucket; {WANTED}"
    if any(part in ("", ".", "..") for part in parts.path.strip("/").split("/")[1:]):
        return f"{uri}: the prefix has an empty part, or one of dots"
    return None


def where(uri: str) -> str:
    """An address that means the same from anywhere."""
    if "://" in uri:
        return uri.rstrip("/").removeprefix("file://")
    return str(Path(uri).expanduser().absolute())


def check_storage(uri: str) -> None:
    """Write, read and delete in a storage, and see that a name can't be created twice there.

    Raises:
        BadInput: it won't do; the message says why, and what to do about it.
    """
    if fault := uri_fault(uri):
        raise BadInput(f"storage: {fault}")
    storage, name = open_storage(uri, attempts=1), f".probe-{secrets.token_hex(4)}"
    try:
        storage.names(name)  # a bucket that is not there can be told from this alone
        storage.create(name, b"")
        try:
            _check_creates_once(storage, name)
        finally:
            storage.delete(name)
    except StorageError as error:
        raise BadInput(f"storage: {str(error).replace(f'/{name}', '')}") from error


def _check_creates_once(storage: Storage, name: str) -> None:
    try:
        storage.create(name, b"")
    except FileExistsError:
        return
    raise BadInput(
        f"storage: {storage.uri}: this server lets a name be created twice (it ignores "
        "If-None-Match), so two drivers could not be kept apart; use another server"
    )


def space_fault(folder: Path, need: int) -> str | None:
    """Why there is too little room in a folder, if there is."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= MARGIN * need:
        return None
    return (
        f"{folder} has {free / 1e9:.1f} GB free; the checkpoints of this search take about "
        f"{need / 1e9:.1f} GB, and twice that should be free"
    )


def network_kind(path: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that a path lies on; None on a local disk.

    `mounts` is the content of /proc/self/mountinfo, see proc(5); there is none outside Linux.
    """
    if mounts is None:
        table = Path("/proc/self/mountinfo")
        mounts = table.read_text() if table.exists() else ""
    found, longest = None, -1
    for point, kind in _mounts(mounts):
        inside = path == point or path.is_relative_to(point)
        if inside and len(point.parts) >= longest:  # a later mount covers an earlier one
            found, longest = kind, len(point.parts)
    shared = (*NETWORK, *(f"fuse.{name}" for name in NETWORK_FUSE))
    return found if found is not None and found.startswith(shared) else None


def _mounts(table: str) -> Iterator[tuple[Path, str]]:
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")  # a space is \040
        yield Path(point), after.split()[0]


def check_local(path: Path, what: str, instead: str) -> None:
    """Raises BadInput where a file needs a local disk, and does not lie on one."""
    if kind := network_kind(Path(os.path.realpath(path))):
        raise BadInput(
            f"{what}: {path} is on a network file system ({kind}), where its locks don't hold and "
            f"its content can be lost; {instead}"
        )
