"""A search whose storage is S3 outlives its driver and its driver's disk."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.killing import LONGEST, SPEC, begin, check_nothing_lost, output, wait_for_history
from support.services import BUCKET, S3

from cluster.cli import cli
from search.history.home import Home
from search.history.log import read_book


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_search_goes_on_from_storage_when_its_driver_and_home_are_gone(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"s3://{BUCKET}/{tmp_path.name}"
    spec, home = tmp_path / "spec.yaml", tmp_path / "home"
    spec.write_text(SPEC + f"storage: {storage}\n")
    process = begin(home, "run", str(spec))
    wait_for_history(home, process)
    (folder,) = Home(home).searches()
    while not any(trial.reports for trial in read_book(folder.history).trials.values()):
        assert process.poll() is None, output(home)
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_book(folder.history)
    shutil.rmtree(home)

    monkeypatch.setenv("DIFFSWEEP_STORAGE", storage)
    process = begin(home, "resume", folder.id)
    assert process.wait(LONGEST) == 0, output(home)
    check_nothing_lost(home, folder)
    after = read_book(folder.history)
    for number, trial in before.trials.items():  # what was decided stays decided
        assert after.trials[number].config == trial.config

    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "another"))
    invoke = CliRunner().invoke
    listed = json.loads(invoke(cli, ["ls", "-o", "json"]).output)
    assert [(row["id"], row["state"]) for row in listed] == [(folder.id, "complete")]
    done = invoke(cli, ["export", folder.id, "--to", str(tmp_path / "best")])
    assert done.exit_code == 0, done.output
    exported = {path.name for path in (tmp_path / "best").iterdir()}
    assert exported >= {"config.yaml", "model.safetensors", "metrics.json", "samples.png"}
    assert (
        invoke(cli, ["stop", folder.id]).output == f"{folder.id} is not running, it is complete\n"
    )
