"""Storage on S3, or on a server that speaks its language, over boto3.

boto3 repeats calls that fail for a moment. A client can't be pickled, so each host makes its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trainable.base.durable import DRAFT
from trainable.base.storage import Storage, StorageError

if TYPE_CHECKING:
    from botocore.client import BaseClient

T = TypeVar("T")
CONNECT_SECONDS, ANSWER_SECONDS = 5, 20  # that one attempt may take
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
MISSING = ("NoSuchKey", "404", "NotFound")
UNKNOWN = 501  # the status of a request that the server does not know
PAGE, PAGES_AT_ONCE = 1000, 4  # names that a request deletes at most; such requests side by side
TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


def endpoint_in_use() -> str | None:
    """The address of the S3 server that the environment names; None is Amazon's own."""
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)


def s3_client(endpoint: str | None = None, attempts: int = 3) -> BaseClient:
    """A client for the S3 that the environment names; calls are tried `attempts` times."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        max_pool_connections=32,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    session = boto3.Session()  # of its own: the default one is not made for threads
    client: BaseClient = session.client(
        "s3", endpoint_url=endpoint_in_use() or endpoint, config=config
    )
    return client


class Refused(StorageError):
    """The server answers, and won't do it, or does not know how."""


@dataclass
class Connection:
    """What the storages of a process have in common."""

    client: BaseClient
    bulk: bool = True  # whether many names can be deleted at once there


def connection(endpoint: str | None, attempts: int) -> Connection:
    """The one connection, while the environment stays as it is: it takes a tenth of a second."""
    settings = (each for each in os.environ.items() if each[0].startswith(("AWS_", "MLFLOW_S3")))
    return _connection(endpoint, attempts, frozenset(settings))


@cache
def _connection(endpoint: str | None, attempts: int, _: frozenset[tuple[str, str]]) -> Connection:
    return Connection(s3_client(endpoint, attempts))


class S3Storage(Storage):
    """A prefix of a bucket."""

    def __init__(self, uri: str, attempts: int, endpoint: str | None = None) -> None:
        self.uri, self.attempts = uri, attempts
        self.endpoint = endpoint_in_use() or endpoint
        self.bucket, _, self.prefix = uri.removeprefix("s3://").partition("/")
        self._connection: Connection | None = None

    def __reduce__(self) -> tuple[type[S3Storage], tuple[str, int, str | None]]:
        return S3Storage, (self.uri, self.attempts, self.endpoint)

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = connection(self.endpoint, self.attempts)
        return self._connection

    @property
    def client(self) -> BaseClient:
        return self.connection.client

    def sub(self, name: str) -> S3Storage:
        return S3Storage(f"{self.uri}/{name}", self.attempts, self.endpoint)

    def read(self, name: str) -> bytes:
        content: bytes = self._call(
            name,
            lambda: self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read(),
        )
        return content

    def write(self, name: str, content: bytes) -> None:
        self._call(
            name,
            lambda: self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content),
        )

    def create(self, name: str, content: bytes) -> None:
        self._call(
            name,
            lambda: self.client.put_object(
                Bucket=self.bucket, Key=self._key(name), Body=content, IfNoneMatch="*"
            ),
        )

    def sizes(self, prefix: str = "", after: str = "") -> dict[str, int]:
        start = {"StartAfter": self._key(after)} if after else {}
        pages = self._pages(Prefix=self._key(prefix), **start)
        skip = len(self._key(""))
        found = (each for page in pages for each in page.get("Contents", ()))
        return {each["Key"][skip:]: each["Size"] for each in found}

    def folders(self) -> list[str]:
        pages = self._pages(Prefix=self._key(""), Delimiter="/")
        found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
        return [prefix[len(self._key("")) :].rstrip("/") for prefix in found]

    def delete(self, name: str) -> None:
        self._call(
            name, lambda: self.client.delete_object(Bucket=self.bucket, Key=self._key(name))
        )

    def delete_each(self, names: Sequence[str]) -> None:
        pages = [names[start : start + PAGE] for start in range(0, len(names), PAGE)]
        with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
            list(pool.map(self._delete_page, pages))

    def _delete_page(self, names: Sequence[str]) -> None:
        """Delete names in one request, or one by one where a server has no such request."""
        wanted = {"Objects": [{"Key": self._key(name)} for name in names], "Quiet": True}
        if len(names) == 1 or not self.connection.bulk:
            return super().delete_each(names)
        try:
            answer = self._call(
                "", lambda: self.client.delete_objects(Bucket=self.bucket, Delete=wanted)
            )
        except Refused:
            self.connection.bulk = False
            return super().delete_each(names)
        for refused in answer.get("Errors", ()):
            if refused["Code"] not in MISSING:
                where = f"{self.uri.removesuffix(self.prefix)}{refused['Key']}"
                raise StorageError(f"{where}: {refused['Code']} (at {self.address})")

    def upload(self, path: Path, name: str) -> None:
        self._call(name, lambda: self.client.upload_file(str(path), self.bucket, self._key(name)))

    def download(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{DRAFT}{secrets.token_hex(4)}")
        try:
            self._call(
                name, lambda: self.client.download_file(self.bucket, self._key(name), str(draft))
            )
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def age(self, name: str) -> float | None:
        from email.utils import parsedate_to_datetime

        try:
            head = self._call(
                name, lambda: self.client.head_object(Bucket=self.bucket, Key=self._key(name))
            )
        except FileNotFoundError:
            return None
        now = parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - head["LastModified"]).total_seconds())

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}".lstrip("/")

    def _pages(self, **where: Any) -> list[dict[str, Any]]:
        def pages() -> list[dict[str, Any]]:
            paginator = self.client.get_paginator("list_objects_v2")
            return list(paginator.paginate(Bucket=self.bucket, **where))

        return self._call("", pages)

    def _call(self, name: str, call: Callable[[], T]) -> T:
        """Do it, and say what goes wrong in our own errors."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"{self.uri}/{name}".rstrip("/")
        try:
            return call()
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in MISSING:
                raise FileNotFoundError(where) from error
            if code in TAKEN:
                raise FileExistsError(where) from error
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            kind = Refused if status < 500 or status == UNKNOWN else StorageError
            raise kind(f"{where}: {explain(error)} (at {self.address})") from error
        except (Boto3Error, BotoCoreError, ValueError) as error:
            raise StorageError(f"{where}: {explain(error)} (at {self.address})") from error

    @property
    def address(self) -> str:
        """The server, as people know it."""
        return self.endpoint or "Amazon S3"


def explain(error: Exception) -> str:
    """What S3 or boto3 says, in a line that tells the usual causes apart."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    codes = {
        "SignatureDoesNotMatch": "the secret key is wrong (SignatureDoesNotMatch); "
        "check AWS_SECRET_ACCESS_KEY",
        "InvalidAccessKeyId": "the access key is not known there (InvalidAccessKeyId); "
        "check AWS_ACCESS_KEY_ID",
        "ExpiredToken": "the credentials have expired (ExpiredToken); renew AWS_SESSION_TOKEN",
        "NoSuchBucket": "no such bucket (NoSuchBucket); create it, or check its name",
        "AccessDenied": "these credentials may not do that (AccessDenied)",
        "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
        "RequestTimeTooSkewed": "this machine's clock is wrong (RequestTimeTooSkewed)",
    }
    if isinstance(error, Boto3Error) and isinstance(error.__context__, exceptions.ClientError):
        error = error.__context__  # a transfer tells what S3 said only as text
    if isinstance(error, exceptions.ClientError):
        found = error.response["Error"]
        code = str(found.get("Code", "?"))
        return codes.get(code, f"{code}: {found.get('Message', '')}".rstrip(": "))
    if isinstance(error, exceptions.NoCredentialsError):
        return (
            "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
        )
    if isinstance(error, exceptions.PartialCredentialsError):
        return f"half of the credentials is missing: {error.kwargs.get('cred_var')}"
    away = (
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ReadTimeoutError,
        exceptions.ConnectionClosedError,
        exceptions.HTTPClientError,
    )
    if isinstance(error, exceptions.SSLError):
        return f"the TLS connection fails: {str(error).splitlines()[0]}"
    if isinstance(error, away):
        return "the server does not answer"
    return str(error).splitlines()[0]
