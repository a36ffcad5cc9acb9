"""A user's own modules and images: from the spec to a search, its export, and its training."""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.paths import ROOT
from support.specs import make_config

from cluster.cli import cli
from search.errors import BadInput
from search.spec.loading import load_spec
from trainable.base.shelf import told
from trainable.config_file import read_config
from trainable.solo import train

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, width=8):
        super().__init__()
        self.enter = nn.Conv2d(shape[0] + 1, width, 3, padding=1)
        self.leave = nn.Conv2d(width, shape[0], 3, padding=1)

    def forward(self, x, t):
        level = (t / 1000).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.leave(torch.relu(self.enter(torch.cat([x, level], 1))))
"""
DATA = """
import numpy as np

def load(n):
    return np.random.default_rng(0).uniform(-1, 1, (n, 1, 4, 4)).astype("float32")
"""
SPEC = """
name: mine
code: [modules]
trial:
  dataset: {type: folder, path: images, size: 8, mode: L}
  model: {type: minepkg.nets:Net, width: 16}
  batch_size: 8
  steps: 8
  report_every: 4
  quality: {samples: 16, steps: 2}
space: {optimizer: [adam, sgd]}
budget: {trials: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spec beside a folder of PNGs and a folder of modules."""
    (tmp_path / "modules/minepkg").mkdir(parents=True)
    (tmp_path / "modules/minepkg/nets.py").write_text(NET)
    (tmp_path / "modules/minepkg/data.py").write_text(DATA)
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for i in range(120):
        pixels = random.integers(0, 255, (10 + i % 3, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{i}.png")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def diffsweep(*arguments: object) -> str:
    command = [sys.executable, "-m", "cluster.cli", *map(str, arguments), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.ray
def test_a_folder_of_pngs_and_a_module_of_ones_own_make_a_search(folder: Path, home: Path) -> None:
    found = json.loads(diffsweep("run", folder / "spec.yaml"))
    assert found["state"] == "complete" and found["trials"]["complete"] >= 1
    best = home / found["id"] / "best"
    assert str(folder / "modules") in (best / "config.yaml").read_text()
    numbers = json.loads((best / "metrics.json").read_text())
    again = json.loads(diffsweep("train", best / "config.yaml"))
    for name in ("val_loss", "quality_mmd", "quality_fd", "quality_coverage_real"):
        assert again[name] == numbers[name], name
    with sqlite3.connect(home / "mlflow.db") as store:
        logged = store.execute("SELECT value FROM metrics WHERE key = 'quality_mmd'").fetchall()
    assert (numbers["quality_mmd"],) in logged


def test_own_model_and_own_data_train_without_ray(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = make_config(
        code=(str(folder / "modules"),),
        dataset={"type": "minepkg.data:load", "n": 40},
        model={"type": "minepkg.nets:Net"},
    )
    assert train(config)["step"] == config.steps
    assert sys.path[-1] == str(folder / "modules")  # others come first
    sys.modules.pop("minepkg")


def test_paths_are_relative_to_the_file_they_stand_in(folder: Path) -> None:
    spec = load_spec(folder / "spec.yaml")
    assert spec.code == (str(folder / "modules"),)
    assert spec.trial.dataset.knobs()["path"] == str(folder / "images")
    (folder / "config.yaml").write_text(
        "code: [modules]\ndataset: {type: folder, path: images}\noptimizer: {type: adam, lr: 1e-3}"
    )
    config = read_config(folder / "config.yaml")
    assert config.code == spec.code and config.dataset == spec.trial.dataset.model_copy(
        update={"size": 32, "mode": "RGB"}
    )


def test_check_shows_where_the_code_is(folder: Path) -> None:
    shown = CliRunner().invoke(cli, ["check", str(folder / "spec.yaml")])
    assert shown.exit_code == 0, shown.output
    assert str(folder / "modules") in shown.output.replace("\n", "")


def test_weights_and_feature_files_are_anchored_too_and_addresses_are_not(folder: Path) -> None:
    (folder / "spec.yaml").write_text(
        "name: x\ntrial:\n  init: w.safetensors\n  quality: {features: onnx:net.onnx}\n"
        "  dataset: {type: folder, path: s3://bucket/pics}\n"
    )
    trial = load_spec(folder / "spec.yaml").trial
    assert trial.init == str(folder / "w.safetensors")
    assert trial.quality is not None and trial.quality.features == f"onnx:{folder}/net.onnx"
    assert trial.dataset.knobs()["path"] == "s3://bucket/pics"


def test_unknown_features_are_told_in_words(folder: Path) -> None:
    (folder / "spec.yaml").write_text("name: x\ntrial: {quality: {features: resnet}}")
    with pytest.raises(BadInput, match=r"spec.yaml:2:19 .*: expected random, .* got 'resnet'"):
        load_spec(folder / "spec.yaml")


@pytest.mark.parametrize("name", ["search.py", "trainable", "cluster"])
def test_modules_named_as_ours_are_refused(folder: Path, name: str) -> None:
    path = folder / "modules" / name
    path.write_text("") if name.endswith(".py") else path.mkdir()
    with pytest.raises(BadInput, match=rf"spec.yaml:3:8 code.0: .*'{Path(name).stem}'"):
        load_spec(folder / "spec.yaml")


def test_a_missing_folder_of_code_is_told_with_its_place(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("[modules]", "[modulse]"))
    with pytest.raises(BadInput, match=r"spec.yaml:3:8 code.0: no folder .*modulse"):
        load_spec(folder / "spec.yaml")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import nothing_like_it", "no module named 'nothing_like_it'"),
        ("def load(): return 1 / 0", r"ZeroDivisionError: division by zero \(minedata.py:1\)"),
        ("def load(", "SyntaxError"),
        ("def load(missing): pass", "TypeError"),
        ("def load(): return [[1, 2]] * 9", "got an array of int64"),
    ],
)
def test_faults_of_own_code_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, fault: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "minedata", raising=False)
    (folder / "modules/minedata.py").write_text(code)
    config = make_config(code=(str(folder / "modules"),), dataset={"type": "minedata:load"})
    with pytest.raises(BadInput, match=fault) as raised:
        train(config)
    assert "\n" not in str(raised.value)


def test_an_error_is_told_with_the_line_of_ones_own_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder / "modules")
    nets = importlib.import_module("minepkg.nets")
    with pytest.raises(RuntimeError) as raised:  # by torch, several frames below
        nets.Net((1, 8, 8))(torch.zeros(2, 3, 8, 8), torch.zeros(2))
    line = 1 + NET.splitlines().index(next(at for at in NET.splitlines() if "self.leave(" in at))
    assert told(raised.value).endswith(f" (nets.py:{line})")
    for name in ("minepkg", "minepkg.nets"):
        sys.modules.pop(name, None)
