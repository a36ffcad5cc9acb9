"""The best model as MLflow has it: both of its flavours sample, and neither unpickles anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.pytorch
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.models import Model
from support.books import export_of
from support.servers import free_port, mlflow_server
from support.specs import make_config

from search.takeaway.logged_model import call, modules_in, save_model
from trainable.exported import Exported

MODELS: list[dict[str, Any]] = [
    {"model": {"type": "unet", "channels": 8}},
    {
        "model": {"type": "dit", "width": 16, "depth": 1},
        "dataset": {"type": "digits", "labels": True},
    },
    {"model": {"type": "mlp", "width": 16}, "dataset": {"type": "table", "name": "wine"}},
]
STRANGER = """
import json, sys
import mlflow, mlflow.pyfunc, mlflow.pytorch
import pandas as pd
from mlflow.artifacts import download_artifacts

uri = sys.argv[1]
network = mlflow.pytorch.load_model(uri)
from trainable.exported import Exported  # comes with the model
import trainable

there = download_artifacts(uri) + "/artifacts"
native = Exported(there, network=network).sample(3, steps=2, seed=5)
pyfunc = mlflow.pyfunc.load_model(uri)
asked = pd.DataFrame({"count": [3]})
x = pyfunc.predict(asked, params={"steps": 2, "seed": 5})
apart = float(abs(x - native.numpy()).max())
said = {"apart": apart, "shape": x.shape, "code": trainable.__file__}
print("SAID", json.dumps(said))
"""


@pytest.mark.parametrize("given", MODELS, ids=["unet", "dit-with-classes", "mlp-on-a-table"])
def test_both_flavours_are_the_network_for_batches_of_any_size(
    given: dict[str, Any], tmp_path: Path
) -> None:
    _, export = export_of(make_config(**given), tmp_path)
    assert save_model(export, tmp_path / "model", Model(), []) is None
    exported, network = Exported(export), mlflow.pytorch.load_model(str(tmp_path / "model"))
    for count in (1, 2, 5):
        inputs = {
            key: torch.rand(x.shape).to(x.dtype)
            for key, x in call(exported.examples, count).items()
        }
        with torch.no_grad():
            answers = network(*inputs.values()), exported.model(*inputs.values())
        assert torch.allclose(*answers, atol=1e-5)
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    x = pyfunc.predict(pd.DataFrame({"count": [2, 1]}), params={"steps": 2, "seed": 1})
    assert np.allclose(x, exported.sample(3, steps=2, seed=1), atol=1e-5)
    if exported.examples.classes:
        asked = pd.DataFrame({"count": [2, 1], "label": [7, 3]})
        x = pyfunc.predict(asked, params={"steps": 2, "seed": 1})
        told = exported.sample(3, steps=2, seed=1, labels=[7, 7, 3])
        assert np.allclose(x, told, atol=1e-5)


NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Conv2d(shape[0], shape[0], 3, padding=1)

    def forward(self, x, t):
        return self.layer(x).reshape({count}, *x.shape[1:])
"""


@pytest.mark.parametrize(("name", "count"), [("anysize", "x.shape[0]"), ("onesize", "len(x)")])
def test_a_users_own_network_goes_with_its_code_if_its_graph_holds_for_all_batches(
    name: str, count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "modules"
    code.mkdir()
    (code / f"{name}.py").write_text(NETWORK.replace("{count}", count))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.syspath_prepend(str(code))
    _, export = export_of(make_config(model={"type": f"{name}:Net"}), tmp_path)
    assert modules_in(code) == [code / f"{name}.py"]
    missing = save_model(export, tmp_path / "model", Model(), [str(code)])
    assert (tmp_path / "model" / "code" / f"{name}.py").exists()
    flavors = Model.load(str(tmp_path / "model")).flavors
    if name == "anysize":
        assert missing is None and "pytorch" in flavors
    else:
        assert missing is not None and "takes 3 examples only" in missing
        assert "pytorch" not in flavors
    assert "python_function" in flavors


@pytest.mark.ray  # no Ray, but seconds of MLflow
def test_a_stranger_loads_both_flavours_from_a_server_without_pickle(tmp_path: Path) -> None:
    _, export = export_of(make_config(), tmp_path)
    save_model(export, tmp_path / "model", Model(), [])
    with mlflow_server(tmp_path, free_port()) as uri:
        client = MlflowClient(uri)
        experiment = client.create_experiment("tiny")
        model = client.create_logged_model(experiment, name="best")
        client.log_model_artifacts(model.model_id, str(tmp_path / "model"))
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, f"models:/{model.model_id}"],
            cwd=tmp_path,
            env=os.environ
            | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.split("SAID ")[1])
    assert said["apart"] < 1e-4 and said["shape"] == [3, 1, 8, 8]
    assert said["code"].endswith(
        "/code/trainable/__init__.py"
    )  # the model's, not what is installed
