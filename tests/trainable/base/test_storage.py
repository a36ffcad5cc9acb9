"""A storage, on a folder and on a real S3: what can be relied on, and how its faults are told."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.awsrequest import AWSResponse
from support.services import ADMIN, BUCKET, S3, SECRET, free_ports
from support.specs import make_spec

from search.errors import BadInput
from search.history.storage import check_local, check_storage, network_kind, space_fault, uri_fault
from trainable.base.opening import open_storage
from trainable.base.s3 import S3Storage, _connection
from trainable.base.storage import Storage, StorageError
from trainable.data.loaders.remote import RetryS3, open_address


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(str(tmp_path / "shared"))
    request.getfixturevalue("s3")
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


def test_what_is_written_is_read_listed_and_deleted(storage: Storage) -> None:
    assert storage.names() == [] and storage.folders() == []
    storage.write("a/1", b"one")
    storage.write("a/2", b"two")
    storage.write("a/2", b"two again")
    storage.write("b/c/3", b"")
    assert storage.names() == ["a/1", "a/2", "b/c/3"]
    assert storage.names("a/", after="a/1") == ["a/2"]
    assert storage.folders() == ["a", "b"]
    assert (storage.read("a/2"), storage.sub("b").read("c/3")) == (b"two again", b"")
    storage.delete("a/1")
    storage.delete("a/1")
    with pytest.raises(FileNotFoundError):
        storage.read("a/1")
    storage.delete_all("a/")
    assert storage.names() == ["b/c/3"]


@pytest.fixture
def own_client() -> Iterator[None]:
    """A client that this test may change."""
    _connection.cache_clear()
    yield
    _connection.cache_clear()


def test_many_names_are_read_in_order_and_deleted_in_few_requests(
    own_client: None, storage: Storage
) -> None:
    names = [f"part/{number:04d}" for number in range(70)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write(name, name.encode()), names))
    assert storage.sizes("part/", after="part/0067") == {"part/0068": 9, "part/0069": 9}
    assert b" ".join(storage.read_each(iter(names))).decode().split() == names
    with pytest.raises(FileNotFoundError):
        list(storage.read_each([*names, "part/none"]))
    requests: list[str] = []
    if isinstance(storage, S3Storage):
        storage.client.meta.events.register(
            "before-call.s3", lambda model, **_: requests.append(model.name)
        )
    storage.sub("part").delete_each([*(f"{number:04d}" for number in range(69)), "none"])
    assert requests in ([], ["DeleteObjects"])
    assert storage.names() == ["part/0069"]


@pytest.mark.parametrize("answer", [501, 400])
def test_a_server_without_bulk_deletes_is_asked_one_by_one(
    answer: int, s3: S3, own_client: None, tmp_path: Path
) -> None:
    storage = open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    assert isinstance(storage, S3Storage)
    tried: list[str] = []

    def refuse(**_: object) -> AWSResponse:
        tried.append("bulk")
        body = b"<Error><Code>NotImplemented</Code></Error>"
        return AWSResponse("", answer, {}, Raw(body))

    storage.client.meta.events.register("before-send.s3.DeleteObjects", refuse)
    for _ in range(2):
        for name in ("a", "b", "c"):
            storage.write(name, b"")
        storage.sub("").delete_each(["a", "b"])
        assert storage.names() == ["c"]
    assert tried == ["bulk"]  # it is remembered


def test_what_a_bulk_delete_leaves_is_told(s3: S3, tmp_path: Path) -> None:
    storage = open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    assert isinstance(storage, S3Storage)
    body = b"<DeleteResult><Error><Key>x/b</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    storage.client.meta.events.register(
        "before-send.s3.DeleteObjects", lambda **_: AWSResponse("", 200, {}, Raw(body))
    )
    with pytest.raises(StorageError, match=f"^s3://{BUCKET}/x/b: AccessDenied"):
        storage.delete_each(["a", "b"])


class Raw(io.BytesIO):
    """The body of an answer as urllib3 gives it."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def test_storages_share_a_client_while_the_environment_is_the_same(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(uri: str = f"s3://{BUCKET}/x", attempts: int = 3) -> object:
        storage = open_storage(uri, attempts)
        assert isinstance(storage, S3Storage)
        return storage.client

    first = client()
    assert client() is client(f"s3://{BUCKET}/x/y") is first
    assert client(attempts=1) is not first
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert client() is not first


def test_of_many_who_create_a_name_one_succeeds(storage: Storage) -> None:
    def create(content: bytes) -> bool:
        try:
            storage.create("history/00000001.jsonl", content)
        except FileExistsError:
            return False
        return True

    contents = [bytes([65 + place]) * 1000 for place in range(8)]
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, contents))
    assert sum(created) == 1
    assert storage.read("history/00000001.jsonl") == contents[created.index(True)]
    assert storage.names() == ["history/00000001.jsonl"]


def test_it_is_the_same_storage_after_pickling(storage: Storage) -> None:
    storage.write("here", b"1")
    again = pickle.loads(pickle.dumps(storage.sub("")))
    assert again.uri.rstrip("/") == storage.uri
    assert SECRET.encode() not in pickle.dumps(storage)
    assert pickle.loads(pickle.dumps(storage)).read("here") == b"1"


def test_the_age_of_a_name_is_by_the_clock_of_the_storage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)  # a machine whose clock is wrong
    storage.write("lease", b"")
    age = storage.age("lease")
    assert age is not None and 0 <= age < 60
    assert storage.age("nothing") is None


def test_folders_and_files_go_there_and_back(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "large").write_bytes(os.urandom(9 << 20))  # S3 takes it in parts
    (source / "deep/small").write_text("small")
    storage.put_folder(source, "best")
    storage.get_folder("best", tmp_path / "target")
    for name in ("large", "deep/small"):
        assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()


def test_a_name_that_leads_out_of_a_folder_is_not_followed(s3: S3, tmp_path: Path) -> None:
    class Evil(S3Storage):
        def names(self, prefix: str = "", after: str = "") -> list[str]:
            return ["code/../../out"]

    with pytest.raises(StorageError, match="leads out"):
        Evil(f"s3://{BUCKET}/evil", 1).get_folder("code", tmp_path / "target")


ADDRESSES = {
    "s3//bucket/x": "did you mean s3://bucket/x",
    "s3:/bucket/x": "did you mean s3://bucket/x",
    "S3://bucket": "did you mean s3://bucket",
    "gs://bucket/x": "gs:// is not supported; want a folder",
    "s3://": "can't be the name of a bucket",
    "s3://Bucket_1/x": "can't be the name of a bucket",
    "s3://bucket/a//b": "an empty part",
    "s3://bucket/a/../b": "an empty part, or one of dots",
    "s3://AKIAKEY:hidden@bucket/x": "don't belong in the address",
    "s3://bucket/x?secret_key=hidden": "don't belong in the address",
}


@pytest.mark.parametrize(("uri", "fault"), ADDRESSES.items())
def test_addresses_that_wont_do(uri: str, fault: str) -> None:
    told = uri_fault(uri)
    assert told is not None and fault in told and "hidden" not in told
    with pytest.raises(BadInput, match=r"^storage: "):
        check_storage(uri)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://my.bucket-1/a/b_c", "/a/b", "file:///a"])
def test_addresses_that_will_do(uri: str) -> None:
    assert uri_fault(uri) is None


def test_a_storage_that_works_is_left_as_it_was(storage: Storage) -> None:
    check_storage(storage.uri)
    assert storage.names() == []


CREDENTIALS = {
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "hidden"}, r"secret key is wrong \(Signature"),
    "unknown key": ({"AWS_ACCESS_KEY_ID": "nobody"}, r"not known there \(InvalidAccessKeyId\)"),
    "none": (
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        "no credentials; set AWS_ACCESS_KEY_ID",
    ),
    "half": ({"AWS_SECRET_ACCESS_KEY": None}, "half of the credentials is missing"),
    "no bucket": ({"AWS_ACCESS_KEY_ID": ADMIN}, r"no such bucket \(NoSuchBucket\)"),
    "not allowed": ({}, r"may not do that \(AccessDenied\)"),
    "unreachable": ({"AWS_ENDPOINT_URL": None}, "the server does not answer"),
    "no address": ({"AWS_ENDPOINT_URL": "127.0.0.1:1"}, "Invalid endpoint"),
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_each_fault_of_s3_is_told_apart(
    case: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, fault = CREDENTIALS[case]
    for name, value in environment.items():
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    if case == "unreachable":
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    bucket = {"no bucket": "not-there", "not allowed": "another"}.get(case, BUCKET)
    with pytest.raises(BadInput, match=fault) as told:
        check_storage(f"s3://{bucket}/x")
    assert "(at " in str(told.value) and "\n" not in str(told.value)
    assert "hidden" not in str(told.value) and SECRET not in str(told.value)


@pytest.mark.parametrize("path", ["/proc/nope/x", "/dev/null/x"])
def test_a_folder_that_cant_be_written_is_told_with_uid_and_errno(path: str) -> None:
    with pytest.raises(BadInput, match=rf"storage: .*errno \d+, uid {os.getuid()}"):
        check_storage(path)


def test_a_server_that_lets_names_be_created_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(open_storage(str(tmp_path)))
    monkeypatch.setattr(kind, "create", kind.write)
    with pytest.raises(BadInput, match="ignores If-None-Match"):
        check_storage(str(tmp_path))


def test_an_outage_is_waited_for_by_s3_after_pickling(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away at first: the pickled storage tries again until it is there."""
    storage = open_storage(f"s3://{BUCKET}/outage", attempts=12)
    assert pickle.loads(pickle.dumps(storage)).attempts == 12  # type: ignore[attr-defined]
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    away = pickle.loads(pickle.dumps(open_storage(f"s3://{BUCKET}/outage", attempts=12)))
    relay = threading.Timer(2.0, relay_to, (port, s3.port))
    relay.daemon = True
    relay.start()
    away.write("late", b"but there")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert storage.read("late") == b"but there"


def relay_to(port: int, target: int) -> None:
    """Serve another port's service on this one: S3 comes back."""
    import socket

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            while data := source.recv(1 << 16):
                sink.sendall(data)

    server = socket.create_server(("127.0.0.1", port))
    while True:
        client, _ = server.accept()
        upstream = socket.create_connection(("127.0.0.1", target))
        for pair in ((client, upstream), (upstream, client)):
            threading.Thread(target=copy, args=pair, daemon=True).start()


def test_data_on_s3_is_read_with_retries_that_survive_pickling(s3: S3, tmp_path: Path) -> None:
    open_storage(f"s3://{BUCKET}/data").write("a.bin", b"content")
    files, path = open_address(f"s3://{BUCKET}/data/")
    assert isinstance(files, RetryS3)
    again = pickle.loads(pickle.dumps(files))
    assert isinstance(again, RetryS3) and again.attempts == files.attempts
    with again.open_input_stream(f"{path}/a.bin") as file:
        assert file.read() == b"content"


MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
36 21 0:33 / /home rw,relatime shared:2 - nfs4 server:/home rw
37 36 8:2 / /home/local\\040disk rw - xfs /dev/sdb1 rw
38 21 0:40 / /mnt/bucket rw - fuse.s3fs s3fs rw
39 21 0:41 / /mnt/fuse rw - fuse.encfs encfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", None),
        ("/home/me/runs", "nfs4"),
        ("/homework", None),
        ("/home/local disk/runs", None),
        ("/mnt/bucket/a", "fuse.s3fs"),
        ("/mnt/fuse/a", None),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(path: str, kind: str | None) -> None:
    assert network_kind(Path(path), MOUNTS) == kind


def test_files_with_locks_are_refused_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_local(tmp_path, "DIFFSWEEP_HOME", "use another")
    monkeypatch.setattr("search.history.storage.network_kind", lambda path: "nfs4")
    fault = r"DIFFSWEEP_HOME: .*\(nfs4\), where its locks.*use another"
    with pytest.raises(BadInput, match=fault):
        check_local(tmp_path, "DIFFSWEEP_HOME", "use another")


def test_a_disk_that_is_nearly_full_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert space_fault(tmp_path / "not/there/yet", 1_500_000_000) is None
    told = space_fault(tmp_path, 1_600_000_000)
    assert told is not None and "has 3.0 GB free" in told and "1.6 GB" in told


def test_a_spec_takes_a_storage(tmp_path: Path) -> None:
    assert make_spec(storage="s3://bucket/prefix").storage == "s3://bucket/prefix"
