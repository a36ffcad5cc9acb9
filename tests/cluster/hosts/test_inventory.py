"""Inventories of machines, and what is written to each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.hosts.hosts import check_host, ssh
from cluster.hosts.inventory import Inventory, load_inventory
from cluster.hosts.node import KEEP, SERVICE, START, STOP, UNIT, files, node_script, start_script
from search.errors import BadInput

SECRET = "not-for-argv"
TEXT = """\
head: 10.0.0.1
workers: [10.0.0.2, {address: 10.0.0.3, cpus: 6, gpus: 2}]
user: ray
python: /opt/diffsweep/bin/python
environment: {AWS_SECRET_ACCESS_KEY: "${PLANTED}", MLFLOW_TRACKING_URI: "http://10.0.0.9:5000"}
"""


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    monkeypatch.setenv("PLANTED", SECRET)
    (tmp_path / "inventory.yaml").write_text(TEXT)
    return load_inventory(tmp_path / "inventory.yaml")


def test_an_inventory_names_a_head_and_workers(inventory: Inventory) -> None:
    assert [machine.address for machine in inventory.machines] == [
        *("10.0.0.1", "10.0.0.2", "10.0.0.3"),
    ]
    assert inventory.workers[1].gpus == 2
    assert inventory.url == "http://10.0.0.1:8265"
    assert inventory.environment["AWS_SECRET_ACCESS_KEY"] == SECRET


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("worker: [a]", "worker: unknown key, did you mean 'workers'?"),
        ("workers: []", "workers: needs at least 1"),
        ("workers: [10.0.0.1]", "workers: 10.0.0.1 is listed twice"),
        ("workers: ['-oProxyCommand=x']", "does not match"),
        ("user: 'a b'", "does not match"),
        ("python: 'python; true'", "does not match"),
        ("environment: {A: 'x$(true)'}", "does not match"),
        ("environment: {RAY_AUTH_MODE: disabled}", "is the cluster's own to set"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "inventory.yaml"
    key = line.partition(":")[0]
    lines = ["head: 10.0.0.1", "workers: [10.0.0.2]", "python: /usr/bin/python3"]
    path.write_text("\n".join([*(own for own in lines if not own.startswith(f"{key}:")), line]))
    with pytest.raises(BadInput) as caught:
        load_inventory(path)
    (told,) = caught.value.faults
    assert fault in told
    assert told.startswith(f"{path}:")


def test_the_head_runs_no_trials_and_keeps_its_state(inventory: Inventory) -> None:
    head, worker = inventory.head, inventory.workers[1]
    assert "--num-cpus=0" in node_script(inventory, head)
    assert "--dashboard-host=10.0.0.1" in node_script(inventory, head)
    assert "rocksdb" in files(inventory, head, "t")["environment"]
    assert "--address=10.0.0.1:6379" in node_script(inventory, worker)
    assert "--num-cpus=6" in node_script(inventory, worker)
    assert "--num-gpus=2" in node_script(inventory, worker)
    assert "rocksdb" not in files(inventory, worker, "t")["environment"]


def test_secrets_are_in_private_files_alone(inventory: Inventory, tmp_path: Path) -> None:
    """Run what a host runs at `up`, but for the start itself."""
    script = start_script(inventory, inventory.head, "the-token").removesuffix(START)
    subprocess.run(["sh", "-s"], input=script, text=True, check=True, env={"HOME": str(tmp_path)})
    folder = tmp_path / ".diffsweep"
    assert (folder / "token").read_text().strip() == "the-token"
    assert SECRET in (folder / "environment").read_text()
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}
    read = f". {folder}/environment; echo $RAY_AUTH_TOKEN_PATH $AWS_SECRET_ACCESS_KEY"
    told = subprocess.run(
        ["sh", "-c", read], capture_output=True, text=True, env={"HOME": str(tmp_path)}
    )
    assert told.stdout.split() == [f"{folder}/token", SECRET]
    assert SECRET not in node_script(inventory, inventory.head) + SERVICE + KEEP


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock, of util-linux")
def test_what_ended_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / ".diffsweep"
    folder.mkdir()
    count = 'echo x >>count; [ "$(wc -l <count)" -lt 3 ] || exec sleep 600'
    (folder / "node.sh").write_text(f'cd "$(dirname "$0")"\n{count}\n')
    (folder / "keep.sh").write_text(KEEP.replace("sleep 5", "sleep 0.1"))
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    keep = subprocess.Popen(["sh", str(folder / "keep.sh")], env=home, stdout=subprocess.DEVNULL)
    while not (folder / "count").exists() or (folder / "count").read_text() != "x\n" * 3:
        assert keep.poll() is None
    again = subprocess.run(["sh", str(folder / "keep.sh")], env=home)
    assert again.returncode == 0  # it has seen that it is not the first
    subprocess.run(["sh", "-s"], input=STOP, text=True, check=True, env=home)
    assert keep.wait() == 0
    assert not (folder / "keep.sh").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT
    unit.write_text(SERVICE.replace("%h", str(tmp_path)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    wrong = unit.with_name("wrong.service")
    wrong.write_text(SERVICE.replace("Restart=always", "Restart=perhaps"))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(wrong)],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert "perhaps" in told.stderr  # it does look


def test_a_host_that_fails_is_told_in_its_own_words(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\necho "$@" >argv; cat >script; echo "Permission denied." >&2\n')
    program.write_text(program.read_text() + "exit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^Permission denied\.$"):
        check_host(inventory, inventory.head)
    with pytest.raises(BadInput):
        ssh(inventory, inventory.head, start_script(inventory, inventory.head, "the-token"))
    assert "ray@10.0.0.1 sh -s" in (tmp_path / "argv").read_text()
    assert "the-token" in (tmp_path / "script").read_text()
    assert "the-token" not in (tmp_path / "argv").read_text()
