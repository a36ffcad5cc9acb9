"""`diffsweep train` and `python -m trainable` on what can't be trained, and on what diverges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.paths import ROOT

from cluster.cli import cli
from search.errors import BadInput

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Conv2d(shape[0], shape[0], 3, padding=1)

    def forward(self, x, t):
        return self.layer(x)

class Fails(Net):
    def forward(self, x, t):
        return self.layer(x[:, :, 0, 0])

class Short(Net):
    def forward(self, x, t):
        return self.layer(x)[:, :, :4]

class Half(Net):
    def __init__(self, shape):
        super().__init__(shape)
        self.half()

class Idle(Net):
    def forward(self, x, t):
        return 1.0 * x

class Bare(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, x, t):
        return 1.0 * x

class Picky(torch.optim.SGD):
    def __init__(self, params, lr):
        raise RuntimeError("no")

def no_number(model, batch, generator):
    return (model(batch, torch.zeros(len(batch))) * float("nan")).mean()

def no_weight(model, batch, generator):
    return batch.mean()
"""
CONFIG = {
    "code": ["modules"],
    "dataset": {"type": "digits"},
    "model": {"type": "trainnets:Net"},
    "batch_size": 8,
    "steps": 4,
    "report_every": 2,
    "validation_examples": 16,
    "quality": None,
    "optimizer": {"type": "adam", "lr": 1e-3},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "trainnets", raising=False)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/trainnets.py").write_text(OWN)
    return tmp_path


def write(folder: Path, **keys: object) -> str:
    (folder / "config.yaml").write_text(json.dumps(CONFIG | keys))
    return str(folder / "config.yaml")


def train(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["train", *arguments])


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (
            {"device": "cuda"},
            "trial.device: torch finds no cuda device on this machine; want auto",
        ),
        ({"model": {"type": "trainnets:Fails"}}, "trainnets:Fails fails on examples of shape"),
        ({"model": {"type": "trainnets:Short"}}, "answers shape (1, 4, 8) to examples of shape"),
        ({"model": {"type": "trainnets:Net", "w": 3}}, "trainnets:Net can't be built: TypeError"),
        ({"model": {"type": "trainnets:Half"}}, "trainnets:Half fails on examples of shape"),
        ({"model": {"type": "trainnets:Idle"}}, "trainnets:Idle uses none of its weights"),
        ({"model": {"type": "trainnets:Bare"}}, "trainnets:Bare has no weights to train"),
        (
            {"optimizer": {"type": "trainnets:Picky", "lr": 1.0}},
            "trainnets:Picky: RuntimeError: no",
        ),
        ({"optimizer": {"type": "trainnets:None", "lr": 1.0}}, "can't import 'trainnets:None'"),
        ({"loss": "trainnets:no_weight"}, "trainnets:no_weight depends on no weight"),
        ({"quality": {"features": "trainnets:Nothing", "samples": 16}}, "can't import"),
    ],
)
def test_what_can_not_be_trained_is_one_line(
    keys: dict[str, object], fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = train(write(folder, **keys))
    assert isinstance(result.exception, BadInput), result.exception
    (line,) = result.exception.faults
    assert fault in line and "\n" not in line


@pytest.mark.parametrize(
    ("flag", "fault"),
    [("--seed", "seed: must be less than 2147483648, got 1099511627776"), ("--steps", None)],
)
def test_flags_are_checked_as_the_keys_that_they_set(
    flag: str, fault: str | None, folder: Path
) -> None:
    result = train(write(folder), flag, "1099511627776" if fault else "2", "-o", "json")
    if fault is None:
        assert json.loads(result.stdout)["step"] == 2
        return
    assert isinstance(result.exception, BadInput)
    assert result.exception.faults == (f"--seed 1099511627776 {fault}",)


def test_a_training_that_diverges_says_so_in_json_that_all_can_read(folder: Path) -> None:
    out = folder / "out"
    path = write(folder, loss="trainnets:no_number")
    result = train(path, "--out", str(out), "-o", "json")
    assert result.exit_code == 1 and f"{path}: diverged at step 0\n" in result.stderr
    for text in (result.stdout, (out / "metrics.json").read_text()):
        assert "NaN" not in text and json.loads(text)["val_loss"] is None


def module(folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainable", path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )


def test_the_module_trains_as_the_command_does(folder: Path) -> None:
    done = module(folder, write(folder))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["step"] for line in done.stdout.splitlines()] == [2, 4]
    done = module(folder, write(folder, optimizer={"type": "adam", "lr": -1}, stpes=3))
    assert done.returncode == 2
    assert [line.partition(" ")[2] for line in done.stderr.splitlines()] == [
        "optimizer.lr: must be more than 0.0, got -1",
        "stpes: unknown key, did you mean 'steps'?",
    ]
