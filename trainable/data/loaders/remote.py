"""Data on S3, read by pyarrow: retried for as long as an outage may last, in every process."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from trainable.base.s3 import endpoint_in_use

ATTEMPTS = 12  # about two minutes
CONNECT_SECONDS, ANSWER_SECONDS = 5, 20  # that one attempt may take


class RetryS3(fs.S3FileSystem):  # type: ignore[misc]
    """pyarrow's file system on S3, which by itself forgets how to retry when it is pickled."""

    def __init__(self, attempts: int = ATTEMPTS, **options: Any) -> None:
        retry = fs.AwsStandardS3RetryStrategy(max_attempts=attempts)
        super().__init__(retry_strategy=retry, **options)
        self.attempts, self.options = attempts, options

    def __reduce__(self) -> Any:
        return _remade, (self.attempts, self.options)


def _remade(attempts: int, options: dict[str, Any]) -> RetryS3:
    return RetryS3(attempts, **options)


def open_address(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an s3:// address, and the path in it. Credentials as AWS tools find them.

    Raises:
        OSError, ValueError: there is no such bucket, or it can't be asked.
    """
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": ANSWER_SECONDS,
    }
    if (endpoint := endpoint_in_use()) is not None:
        parts = urlsplit(endpoint)
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    else:
        options["region"] = fs.resolve_s3_region(urlsplit(address).netloc)
    return RetryS3(**options), address.removeprefix("s3://").rstrip("/")
