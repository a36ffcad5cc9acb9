"""What is left when something ends badly: folders, reports, trials; and confirm after stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.books import Writer, curve
from support.engines import run, start
from support.killing import SPEC, begin, check_nothing_lost, output, wait_for_history
from support.specs import make_spec

from cluster.cli import cli
from search.answer import report
from search.engine.engine import Engine
from search.errors import BadInput, ReportFailed
from search.execution import local
from search.history.home import Home
from search.history.lock import DriverLock
from search.history.log import read_book
from search.spec.spec import SearchSpec
from search.tracking.recorder import Recorder


def test_folders_of_dead_drivers_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "short_folder", lambda: tmp_path)
    living, dead, others = (tmp_path / f"dsw-{name}" for name in ("living", "dead", "others"))
    for folder in (living, dead, others):
        (folder / "session").mkdir(parents=True)
    (dead / local.OWNED).touch()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(living / local.OWNED)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    local.remove_orphans()
    assert living.exists() and others.exists() and not dead.exists()
    holder.kill()
    holder.communicate()
    local.remove_orphans()
    assert not living.exists() and others.exists()  # others: nobody says whose it is


HOLD = """
import sys, time
from pathlib import Path
from search.history.lock import DriverLock
with DriverLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_report_that_fails_is_one_line_that_says_what_to_type(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer()
    writer.search({"adam": 0.2, "sgd": 0.3})
    book = writer.finish()
    folder = Home(home).new("tiny")
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in writer.events))
    book.id = folder.id

    def broken(*_: object) -> None:
        raise ZeroDivisionError("no plot today")

    monkeypatch.setattr(report, "report_of", broken)
    with pytest.raises(ReportFailed) as caught:
        report.write_report(folder, book)
    (fault,) = caught.value.faults
    assert "no plot today" in fault and f"diffsweep report {folder.id}" in fault
    assert caught.value.exit_code == 1
    assert "Traceback" in folder.log.read_text()


def test_confirm_after_stop_only_confirms() -> None:
    spec = make_spec(space={"optimizer": ["adam", "sgd"]}, budget={"trials": 12})
    engine = start(spec)
    run(engine, until=6)
    engine.stopping = "stopped"
    run(engine)
    engine.finish()
    assert engine.book.state == "stopped"
    searched = {n: (t.state, t.samples) for n, t in engine.book.trials.items()}
    wanted = SearchSpec.model_validate(spec.model_dump(mode="json") | {"confirm": {"seeds": 2}})
    engine.history.write("start", search="tiny-000000", spec=wanted.model_dump(mode="json"))
    again = Engine(wanted, engine.history, "confirm")
    run(again)
    again.finish()
    assert again.book.state == "stopped"
    stages = [t.stage for t in again.book.trials.values()]
    assert stages.count("search") == len(searched) and stages.count("confirm") >= 2
    assert all(again.book.trials[n].samples == samples for n, (_, samples) in searched.items())


def test_a_search_that_only_mlflow_has_can_be_replayed(home: Path, tmp_path: Path) -> None:
    writer = Writer()
    for lr, loss in ((1e-4, 0.3), (1e-3, 0.2), (3e-3, 0.25)):
        writer.trial("adam", lr, curve(loss))
    writer.finish()
    folder = Home(home).new("tiny")
    events = [e | ({"search": folder.id} if "search" in e else {}) for e in writer.events]
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in events))
    store = f"sqlite:///{tmp_path}/elsewhere.db"
    spec = writer.spec.model_copy(
        update={"tracking": writer.spec.tracking.model_copy(update={"uri": store})}
    )
    recorder = Recorder(spec, folder, Home(home))
    with recorder:
        pass
    assert recorder.error is None
    few = ["--seeds", "2", "--set", "budget.trials=6", "-o", "json"]
    here = CliRunner().invoke(cli, ["replay", folder.id, *few])
    there = CliRunner().invoke(cli, ["replay", folder.id, "--tracking", store, *few])
    assert here.exit_code == there.exit_code == 0, there.output
    ours, theirs = json.loads(here.stdout), json.loads(there.stdout)
    # a store has no space, so what is said of settings beside the learning rate differs
    assert ours.pop("interpolation")["how"] == theirs.pop("interpolation")["how"]
    assert ours == theirs
    folder.path.rename(tmp_path / "gone")
    gone = CliRunner().invoke(cli, ["replay", folder.id, *few], env={"MLFLOW_TRACKING_URI": store})
    assert gone.exit_code == 0 and json.loads(gone.stdout) == json.loads(there.stdout)


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_ray_that_was_starting_is_ended_when_the_model_will_not_do(tmp_path: Path) -> None:
    spec, rays = tmp_path / "spec.yaml", Path(tempfile.gettempdir())
    spec.write_text("name: odd\ntrial: {model: {type: dit, patch: 3}}\n")
    before = set(rays.glob(local.PREFIX + "*"))
    command = [sys.executable, "-m", "cluster.cli", "run", str(spec)]
    env = os.environ | {"DIFFSWEEP_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    started: set[Path] = set()
    while process.poll() is None:
        started |= set(rays.glob(local.PREFIX + "*")) - before
        time.sleep(0.1)
    (line,) = process.communicate()[1].splitlines()
    assert process.returncode == 2 and "patch" in line
    assert started and not any(folder.exists() for folder in started)
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert not any(str(folder) in commands for folder in started)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_ctrl_c_leaves_a_search_that_resume_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "spec.yaml").write_text(SPEC)
    process = begin(home, "run", str(tmp_path / "spec.yaml"))
    wait_for_history(home, process)
    (folder,) = Home(home).searches()
    while not any(t.state == "running" for t in read_book(folder.history).trials.values()):
        assert process.poll() is None, output(home)
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(200) == 130, output(home)
    book = read_book(folder.history)
    assert book.state == "interrupted" and any(t.again for t in book.trials.values())
    assert begin(home, "resume", folder.id).wait(300) == 0, output(home)
    check_nothing_lost(home, folder)


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_hanging_broken_and_hungry_trials_are_told_apart(tmp_path: Path) -> None:
    """One optimizer sleeps, one raises, one asks for too much memory, one diverges, one works."""
    home, modules = tmp_path / "home", tmp_path / "modules"
    modules.mkdir()
    (modules / "fates.py").write_text(FATES)
    (tmp_path / "spec.yaml").write_text(FATE_SPEC)
    process = begin(home, "run", str(tmp_path / "spec.yaml"))
    wait_for_history(home, process)
    assert process.wait(400) == 0, output(home)
    (folder,) = Home(home).searches()
    book = read_book(folder.history)
    fates = {t.optimizer.partition(":")[2] or t.optimizer: t for t in book.trials.values()}
    assert fates["Sleeps"].state == "failed" and "timeout" in (fates["Sleeps"].why or "")
    assert fates["Raises"].state == "failed" and (fates["Raises"].why or "").startswith("code")
    assert fates["Hungry"].state == "failed" and (fates["Hungry"].why or "").startswith("oom")
    assert fates["Diverges"].state == "diverged"
    assert fates["adam"].state == "complete"
    assert book.state == "complete"
    began = [e for e in folder.history.read_text().splitlines() if '"begin"' in e]
    assert len(began) == 5  # none was tried again
    assert not DriverLock.held(folder.lock) and os.listdir(folder.best)


FATES = """
import time
import torch

class Sgd(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > 4:  # not where the optimizer is only tried before the search
            self.meet()
        return super().step(closure)

class Sleeps(Sgd):
    def meet(self):
        time.sleep(10_000)

class Raises(Sgd):
    def meet(self):
        raise RuntimeError("a fault of my own")

class Hungry(Sgd):
    def meet(self):
        torch.empty(2**50)

class Diverges(Sgd):
    def meet(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.fill_(float("nan"))
"""
FATE_SPEC = """
name: fates
code: [modules]
trial:
  model: {type: unet, channels: 8, multipliers: [1], attention: false}
  batch_size: 8
  steps: 16
  report_every: 4
  validation_examples: 16
  quality: null
space:
  optimizer:
    adam: {}
    "fates:Sleeps": {lr: [0.01]}
    "fates:Raises": {lr: [0.01]}
    "fates:Hungry": {lr: [0.01]}
    "fates:Diverges": {lr: [0.01]}
scheduler: {type: none}
budget: {trials: 5}
trial_timeout: 30s
"""


@pytest.mark.parametrize("go_on", ["resume", "confirm"])
def test_a_home_on_a_network_file_system_is_refused_by_whatever_drives(
    go_on: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer()
    writer.search({"adam": 0.2, "sgd": 0.3})
    folder = Home(home).new("tiny")
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in writer.events))
    monkeypatch.setattr("search.history.storage.network_kind", lambda path: "nfs4")
    done = CliRunner().invoke(cli, [go_on, folder.id])
    assert isinstance(done.exception, BadInput)
    assert "network file system (nfs4)" in str(done.exception)
