"""What is checked before a search is sent away, and how addresses and tokens are found."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from support.specs import make_spec

from cluster.cli import cli
from cluster.local.address import dashboard_url, find_cluster
from cluster.local.services import find, free_port, port_for
from cluster.remote.submit import check_shared, check_spec, check_versions, driver_node, ship_code
from search.errors import BadInput
from search.execution.dashboard import Dashboard, Node, token_from_environment
from search.history.home import Home
from search.tracking.server import masked
from search.watch.answers import packed, read_answer, unpack

HEAD, WORKER = Node("1", "10.0.0.1", True, 0, 0), Node("2", "10.0.0.2", False, 4, 1)


class Answers(BaseHTTPRequestHandler):
    """A dashboard that lets only the token `right` in; on other paths a page of HTML."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        if self.path == "/api/authentication_mode":
            self.reply(200, json.dumps({"authentication_mode": "token"}))
        elif given is None:
            self.reply(401, "Unauthorized")
        elif given != "Bearer right":
            self.reply(403, "Forbidden")
        elif self.path == "/api/version":
            self.reply(200, json.dumps({"ray_version": "2.60.0"}))
        else:
            self.reply(200, "<html>")

    def reply(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fault(call: object, *arguments: object) -> str:
    with pytest.raises(BadInput) as caught:
        call(*arguments)  # type: ignore[operator]
    (line,) = caught.value.faults
    return line


def test_what_is_wrong_with_the_connection_is_told_apart(url: str) -> None:
    assert Dashboard(url, "right").check() == "2.60.0"
    assert "needs a token" in fault(Dashboard(url, None).check)
    assert "refuses this token" in fault(Dashboard(url, "wrong").check)
    assert "no Ray dashboard" in fault(Dashboard(url, "right").jobs)
    assert "nothing listens there" in fault(Dashboard(f"http://127.0.0.1:{free_port()}", "").check)


def test_something_that_is_no_http_server_is_told() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert address in fault(Dashboard(address, None).check)
        thread.join()


@pytest.mark.parametrize("given", ["host", "ftp://host", "host:port", "http://", "host:6379/x"])
def test_what_is_no_address_of_ray_is_refused_with_the_right_one(given: str) -> None:
    assert "want http://" in fault(dashboard_url, given, "--cluster")


@pytest.mark.parametrize(
    "given",
    ["ray://host:10001", "ray://host", "host:6379", "host:8265", "http://host:8265/"],
)
def test_the_addresses_that_ray_is_used_to_are_understood(given: str) -> None:
    assert dashboard_url(given, "RAY_ADDRESS") == "http://host:8265"
    assert dashboard_url("http://host:9000", "RAY_ADDRESS") == "http://host:9000"
    assert dashboard_url("[::1]:6379", "RAY_ADDRESS") == "http://[::1]:8265"


def test_auto_is_the_cluster_of_this_machine_and_local_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    found = find_cluster(None, Home())
    assert found is not None and found.url == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_cluster(None, Home()) is None
    home.mkdir()
    (tmp_path / "token").write_text("of the local one\n")
    local = {"ray": "http://127.0.0.1:9999", "token": str(tmp_path / "token")}
    (home / "cluster.json").write_text(json.dumps(local))
    for given in ("auto", "local"):
        monkeypatch.setenv("RAY_ADDRESS", given)
        found = find_cluster(None, Home())
        assert found is not None and (found.url, found.token) == (local["ray"], "of the local one")


def test_an_address_holds_no_secret() -> None:
    line = fault(dashboard_url, "http://me:hidden@host:8265", "RAY_ADDRESS")
    assert "token comes from the environment" in line and "hidden" not in line


def test_the_cluster_is_the_one_given_then_the_environments_then_the_local_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the environment")
    assert find_cluster(None, Home()) is None
    home.mkdir()
    (tmp_path / "token").write_text("of the local one\n")
    local = {"ray": "http://127.0.0.1:8265", "token": str(tmp_path / "token")}
    (home / "cluster.json").write_text(json.dumps(local))
    found = find_cluster(None, Home())
    assert found is not None and (found.url, found.token) == (local["ray"], "of the local one")
    monkeypatch.setenv("RAY_ADDRESS", "http://far:8265")
    found = find_cluster(None, Home())
    assert found is not None and (found.url, found.token) == (
        "http://far:8265",
        "of the environment",
    )
    found = find_cluster("http://farther:8265/", Home())
    assert found is not None and found.url == "http://farther:8265"


def test_a_token_file_that_can_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    assert "/nowhere/token" in fault(token_from_environment)


def test_versions_have_to_agree_up_to_the_minor_one() -> None:
    check_versions("Ray", "2.60.0", "2.60.1")
    assert "2.59.0 on the cluster and 2.60.0 here" in fault(
        check_versions, "Ray", "2.60.0", "2.59.0"
    )


def test_a_trial_that_no_node_holds_is_refused_with_the_largest_node() -> None:
    class One(Dashboard):
        def nodes(self) -> list[Node]:
            return [WORKER]

    dashboard = One("http://x:8265", None)
    line = fault(check_spec, make_spec(resources={"gpu": 2}), [WORKER], dashboard)
    assert "needs 1 CPU and 2 GPUs" in line and "10.0.0.2) has 4 CPUs and 1 GPUs" in line


def test_several_nodes_need_a_storage_in_common() -> None:
    assert "storage: null" in fault(check_shared, None, 2)
    check_shared(None, 1)
    check_shared("s3://bucket", 2)


def test_a_password_in_the_tracking_uri_stays_here() -> None:
    spec = make_spec(tracking={"uri": "postgresql://me:hidden@db/x"})
    line = fault(check_spec, spec, [WORKER], Dashboard("http://x:8265", None))
    assert "MLFLOW_TRACKING_URI" in line and "hidden" not in line


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:hidden@db/x",
        "postgresql://db/x?user=me&password=hidden",
        "http://me:hid@hidden@host:5000",
        "s3://bucket?secret_key=hidden",
    ],
)
def test_passwords_are_masked(uri: str) -> None:
    assert "hidden" not in masked(uri) and "***" in masked(uri)


def test_the_driver_goes_to_a_worker_where_there_is_one() -> None:
    assert driver_node([HEAD, WORKER]) == "10.0.0.2"
    assert driver_node([HEAD]) is None


def test_code_is_shipped_under_names_that_do_not_clash(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "same" / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "same" / "mine.py").write_text(name)
    code = (str(tmp_path / "a" / "same"), str(tmp_path / "b" / "same"))
    spec = ship_code(make_spec().model_copy(update={"code": code}), tmp_path / "shipped")
    assert spec.code == ("code/0", "code/1")
    found = [(tmp_path / "shipped" / folder / "mine.py").read_text() for folder in spec.code]
    assert found == ["a", "b"]
    assert not list((tmp_path / "shipped").rglob("__pycache__"))


def test_an_answer_is_found_among_what_a_job_prints() -> None:
    log = 'noise\ndiffsweep-answer:{"content": [1,\ndiffsweep-answer: 2]}\nmore noise\n'
    assert read_answer(log) is None
    assert read_answer(log + "diffsweep-answer:end\n") == {"content": [1, 2]}


def test_files_travel_and_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "from" / "inner").mkdir(parents=True)
    (tmp_path / "from" / "inner" / "a.bin").write_bytes(bytes(range(256)))
    files = packed(tmp_path / "from")
    unpack(files, tmp_path / "to")
    assert (tmp_path / "to" / "inner" / "a.bin").read_bytes() == bytes(range(256))
    import base64
    import io
    import zipfile

    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../outside", "x")
    assert "outside" in fault(unpack, base64.b64encode(evil.getvalue()).decode(), tmp_path / "to")
    assert not (tmp_path / "outside").exists()


def test_a_recycled_process_id_is_not_taken_for_the_service() -> None:
    me = psutil.Process()
    assert find({"pid": me.pid, "started": me.create_time()}) == me
    assert find({"pid": me.pid, "started": me.create_time() - 60}) is None


def test_a_port_that_was_asked_for_and_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--ray-port {port}: taken" in fault(port_for, "--ray-port", port, 8265)
        assert port_for("--ray-port", None, port) != port


def test_init_writes_what_check_accepts(tmp_path: Path) -> None:
    def diffsweep(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, arguments)
        return done.exit_code, done.output

    code, said = diffsweep("init", str(tmp_path / "new"))
    assert code == 0 and "spec.yaml" in said
    code, said = diffsweep("check", str(tmp_path / "new" / "spec.yaml"))
    assert code == 0, said
    done = CliRunner().invoke(cli, ["init", str(tmp_path / "new")])
    assert isinstance(done.exception, BadInput) and "there already" in str(done.exception)
