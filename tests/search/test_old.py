"""What the code of commit 9dff4e9 left behind, before it had rooms, is read and gone on with.

tests/old/9dff4e9.zip holds a complete search, one whose driver was killed in its second trial,
and the best model of the first as MLflow had logged it, with the code of its time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.paths import ROOT

from search.answer.content import report_of
from search.history.home import Home
from search.history.log import read_book
from search.takeaway.export import export
from search.watch.status import status_of
from trainable.config_file import read_config
from trainable.exported import Exported
from trainable.solo import train

LOADED = """
import sys
if sys.argv[2] == "beside":
    import trainable.train  # of today
import mlflow, numpy, pandas
uri = sys.argv[1] + "/model"
model = mlflow.pyfunc.load_model(uri)
asked = pandas.DataFrame({"count": [3], "label": [5]})
x = model.predict(asked, params={"steps": 4, "seed": 1})
network = mlflow.pytorch.load_model(uri)
from trainable.exported import Exported
y = Exported(uri + "/artifacts", device="cpu", network=network).sample(3, 4, 1, [5, 5, 5]).numpy()
numpy.savez(sys.argv[1] + "/samples.npz", x=x, y=y)
print(trainable.__file__ if "trainable" in globals() else sys.modules["trainable"].__file__)
"""


@pytest.fixture
def old(home: Path) -> Path:
    """The archive, unpacked where the home is: as home/ and model/."""
    with zipfile.ZipFile(ROOT / "tests" / "old" / "9dff4e9.zip") as archive:
        archive.extractall(home.parent)
    return home.parent


def test_a_search_is_listed_shown_and_reported_as_it_was(old: Path) -> None:
    folder = Home().find("old")
    status, content = status_of(folder), report_of(read_book(folder.history))
    assert status["state"] == "complete" and len(content["confirm"]) == 4
    assert status["best"]["val_loss"] == pytest.approx(0.4132, abs=1e-4)
    (verdict,) = content["verdicts"]
    assert (verdict["a"], verdict["b"], verdict["verdict"]) == ("sgd", "adam", "better")


def test_its_export_samples_and_trains_to_its_loss_again(old: Path, tmp_path: Path) -> None:
    best = old / "home" / Home().find("old").id / "best"
    assert Exported(best, device="cpu").sample(2, steps=3).shape == (2, 1, 8, 8)
    metrics = train(read_config(best / "config.yaml"))
    known = json.loads((best / "metrics.json").read_text())
    assert metrics["val_loss"] == pytest.approx(known["val_loss"], rel=1e-3)
    export(Home().find("old"), Home(), str(tmp_path / "again"))
    one, two = (load_file(f / "model.safetensors") for f in (best, tmp_path / "again"))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("how", ["alone", "beside"])
def test_its_model_in_mlflow_loads_with_its_own_code_and_beside_todays(
    how: str, old: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LOADED, str(old), how]
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    code = Path(done.stdout.strip().splitlines()[-1])
    assert code.is_relative_to(old / "model" if how == "alone" else ROOT)
    with np.load(old / "samples.npz") as samples:
        assert samples["x"].shape == (3, 1, 8, 8)
        assert np.allclose(samples["x"], samples["y"], atol=1e-4)
        today = Exported(old / "model" / "artifacts", device="cpu").sample(3, 4, 1, [5, 5, 5])
        assert np.allclose(samples["x"], today.numpy(), atol=1e-4)


@pytest.mark.ray
def test_a_search_whose_driver_was_killed_goes_on(old: Path) -> None:
    folder = Home().find("cut")
    before = read_book(folder.history)
    assert before.trials[0].state == "complete" and before.trials[1].state == "running"
    command = [sys.executable, "-m", "cluster.cli", "resume", folder.id]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    book = read_book(folder.history)
    assert book.state == "complete" and len(book.trials) == 4
    assert [t.config for t in book.trials.values()][:2] == [
        t.config for t in before.trials.values()
    ]
    assert book.trials[0].reports == before.trials[0].reports
    samples = [report["samples"] for report in book.trials[1].reports]
    assert samples == sorted(set(samples))
