"""Machines as people have them: kept to few CPUs, with long paths, taken ports, hidden modules."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.paths import ROOT
from support.specs import make_spec

from cluster.apart import taken
from cluster.local.up import refuse_ports
from search.errors import BadInput
from search.execution import local
from search.history.home import Home
from search.tracking.embedded import make_store
from search.tracking.server import check_experiment, client_of
from trainable.base import cpus


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpus, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "MINE", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    return tmp_path


@pytest.mark.parametrize(
    ("mine", "files", "count"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "cpu.max": "100000 100000"}, 1),
        ("0::/\n", {"cpu.max": "nonsense"}, 16),
        ("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1"}, 16),
        (
            "4:cpu,cpuacct:/d\n3:memory:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "250000", "cpu/d/cpu.cfs_period_us": "100000"},
            2,
        ),
        (  # in a container its own group is at the root
            "4:cpu:/docker/x\n",
            {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000"},
            3,
        ),
    ],
)
def test_cpus_are_those_that_a_quota_leaves(
    mine: str, files: dict[str, str], count: int, groups: Path
) -> None:
    (groups / "self").write_text(mine)
    for name, text in files.items():
        (groups / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / "cgroup" / name).write_text(text + "\n")
    assert cpus.count_cpus() == count
    assert local.concurrency(make_spec()) == count


def test_cpus_are_those_that_the_affinity_leaves(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert cpus.count_cpus() == 1  # and no file to read
    with pytest.raises(BadInput, match="needs 2 CPUs, this machine has 1"):
        local.concurrency(make_spec(resources={"cpu": 2}))


def test_ray_counts_as_we_do_and_leaves_our_folder_off_the_path(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    told = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3})
    monkeypatch.setattr(ray, "init", lambda **given: told.update(given))
    local.start(0, groups)
    assert told["num_cpus"] == 3
    assert told["job_config"]._runtime_env_has_working_dir()


def test_a_long_folder_for_temporary_files_is_left_for_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert len(str(local.short_folder())) <= local.LONGEST_TMPDIR
    monkeypatch.setattr(local, "SHORT_FOLDERS", ())
    with pytest.raises(BadInput, match=r"TMPDIR: .* is too long for the sockets of Ray, by \d+"):
        local.short_folder()


@pytest.mark.parametrize(
    ("ray", "mlflow", "said"),
    [
        (18265, None, "--ray-port 18265: Ray gives 10002 to 19999 to its workers"),
        (None, 10002, "--mlflow-port 10002: Ray gives"),
        (0, None, "--ray-port 0: want a port from 1 to 65535"),
        (70000, None, "want a port"),
        (None, -1, "want a port"),
        (5000, 5000, "--mlflow-port 5000: is --ray-port, too"),
    ],
)
def test_ports_that_can_not_be_had_are_told_before(
    ray: int | None, mlflow: int | None, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        refuse_ports({"--ray-port": ray, "--mlflow-port": mlflow})
    refuse_ports({"--ray-port": 8265, "--mlflow-port": None})


@pytest.mark.parametrize("name", ["search.py", "trainable/__init__.py", "profile.py", "json.py"])
def test_a_module_that_would_be_hidden_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    (line,) = taken(f"{os.pathsep}{tmp_path}{os.pathsep}/nowhere", ROOT)
    module = name.partition("/")[0].removesuffix(".py")
    assert str(tmp_path / name) in line and f"module '{module}'; rename it" in line
    assert list(taken(str(ROOT), ROOT)) == []


def test_the_command_says_what_is_hidden_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text("")
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    command = [sys.executable, str(ROOT / "cluster" / "cli.py"), "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "takes the place of diffsweep's module 'search'" in done.stderr


def test_an_experiment_that_was_deleted_is_told_before_the_first_trial(tmp_path: Path) -> None:
    home = Home(tmp_path)
    check_experiment(home.store_uri, "mine", home)  # no store yet
    make_store(home)
    client = client_of(home.store_uri)
    number = client.create_experiment("mine")
    other = SimpleNamespace(store_uri="elsewhere", store=home.store)  # then it asks MLflow
    for place in (home, other):
        check_experiment(home.store_uri, "mine", place)  # type: ignore[arg-type]
        check_experiment(home.store_uri, "new", place)  # type: ignore[arg-type]
    assert client.search_runs([number]) == []
    client.delete_experiment(number)
    for place in (home, other):
        with pytest.raises(BadInput, match=f"'mine' was deleted .* --experiment-id {number}"):
            check_experiment(home.store_uri, "mine", place)  # type: ignore[arg-type]


def test_a_tracking_server_that_takes_no_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    make_store(home)
    client_of(home.store_uri).create_experiment("mine")

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError("Permission denied\nmore")

    monkeypatch.setattr("mlflow.MlflowClient.create_run", refuses)
    other = SimpleNamespace(store_uri="elsewhere", store=home.store)
    with pytest.raises(BadInput, match=r"does not take a run of 'mine': Permission denied$"):
        check_experiment(home.store_uri, "mine", other)  # type: ignore[arg-type]


def test_a_home_that_was_moved_writes_to_its_new_place(tmp_path: Path) -> None:
    old = Home(tmp_path / "old")
    old.path.mkdir()
    make_store(old)
    client = client_of(old.store_uri)
    number = client.create_experiment("mine", (old.artifacts / "mine").as_uri())
    away = client.create_experiment("away", "s3://bucket/artifacts/away")
    run = client.create_run(number)
    old.path.rename(tmp_path / "new")
    new = Home(tmp_path / "new")
    make_store(new)
    client = client_of(new.store_uri)
    here = (new.artifacts / "mine").as_uri()
    assert client.get_experiment(number).artifact_location == here
    assert client.get_run(run.info.run_id).info.artifact_uri.startswith(here)
    assert client.get_experiment(away).artifact_location == "s3://bucket/artifacts/away"
    with closing(sqlite3.connect(new.store)) as database:
        dump = "\n".join(database.iterdump())
    assert str(old.path) not in dump


SPEC = """\
name: tiny
trial:
  dataset: {type: points, examples: 64}
  model: {type: mlp, width: 8, depth: 1}
  batch_size: 8
  steps: 4
  report_every: 2
  ema: []
  quality: null
space: {optimizer: [adam]}
budget: {trials: 2}
"""


@pytest.mark.ray
def test_a_search_runs_from_a_folder_whose_files_are_called_like_modules(tmp_path: Path) -> None:
    for name in ("profile.py", "search.py", "trainable.py", "json.py"):
        (tmp_path / name).write_text("raise ImportError('this is not the module you want')\n")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "spec.yaml").write_text(SPEC)
    command = [sys.executable, str(ROOT / "cluster" / "cli.py"), "run", "spec.yaml", "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DIFFSWEEP_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert '"complete": 2' in done.stdout or '"complete": 1' in done.stdout
