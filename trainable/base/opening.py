"""The storage that an address names."""

from __future__ import annotations

from trainable.base.folder import FolderStorage
from trainable.base.storage import Storage


def open_storage(uri: str, attempts: int = 3) -> Storage:
    """The storage at s3://bucket/prefix, or in a folder. Each call is tried `attempts` times."""
    if uri.startswith("s3://"):
        from trainable.base.s3 import S3Storage

        return S3Storage(uri.rstrip("/"), attempts)
    return FolderStorage(uri.removeprefix("file://"))
