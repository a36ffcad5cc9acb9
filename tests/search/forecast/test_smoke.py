"""`check --smoke`: a rehearsal that finds what would break a search in the night."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from support.specs import SMALL, make_spec

from cluster.cli import cli
from search.errors import BadInput, SearchFailed
from search.forecast.smoke import check_smoke, first_config, show_smoke, smoke
from search.spec.spec import SearchSpec

FORGETFUL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, forgets):
        super().__init__()
        self.layer, self.calls, self.forgets = nn.Conv2d(1, 1, 3, padding=1), 0, forgets

    def forward(self, x, t):
        self.calls += self.forgets  # in no state_dict
        return self.layer(x) * (1 + self.calls)

class Deaf(Net):
    def forward(self, x, t):
        return self.layer(x)

class Broken(Net):
    def forward(self, x, t):
        return self.layer(x) * float("nan")

class Hungry(Net):
    def forward(self, x, t):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory.\\nTried to allocate 9 GiB")
        return self.layer(x)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "smokenets", raising=False)
    (tmp_path / "smokenets.py").write_text(FORGETFUL)
    return str(tmp_path)


def own_spec(folder: str, model: dict[str, Any]) -> SearchSpec:
    trial = SMALL | {"model": model}
    return make_spec(code=[folder], trial=trial, space={"optimizer": ["sgd"]})


def test_each_optimizer_is_rehearsed_and_resumes_to_the_bit() -> None:
    spec = make_spec(space={"optimizer": ["adamw", "sgd"]})
    found = smoke(spec)
    check_smoke(found)
    assert list(found["optimizers"]) == ["adamw", "sgd"]
    assert found["data"] == {
        "shape": [1, 8, 8],
        "classes": 0,
        "examples": [1257, 270, 270],
        "notes": [],
    }
    for row in found["optimizers"].values():
        assert row["resume_difference"] == 0 and row["diverged_at"] is None
        assert row["peak_memory_bytes"] > 1e7 and row["seconds_per_step"] > 0
    assert found["optimizers"]["adamw"]["optimizer_bytes"] > 0
    assert found["estimated_seconds"] > 0


def test_a_model_with_state_outside_its_checkpoint_is_found_out(modules: str) -> None:
    for forgets in (0, 1):
        model = {"type": "smokenets:Net", "forgets": forgets}
        spec = make_spec(
            code=[modules], trial=SMALL | {"model": model}, space={"optimizer": ["sgd"]}
        )
        found = smoke(spec)
        if not forgets:
            check_smoke(found)
            continue
        with pytest.raises(SearchFailed, match=r"sgd: a training that is resumed .* differs"):
            check_smoke(found)


def test_what_the_model_does_not_keep_to_is_noted(modules: str) -> None:
    found = smoke(own_spec(modules, {"type": "smokenets:Deaf", "forgets": 0}))
    check_smoke(found)
    assert found["model"]["notes"] == ["the model's answer does not depend on the noise level t"]
    stream = StringIO()
    show_smoke(found, Console(file=stream, width=200))
    assert "note: the model's answer does not depend on the noise level t\n" in stream.getvalue()


def test_divergence_at_the_first_step_is_a_fault(modules: str) -> None:
    found = smoke(own_spec(modules, {"type": "smokenets:Broken", "forgets": 0}))
    with pytest.raises(SearchFailed, match="gradient of the very first batch is not finite"):
        check_smoke(found)


def test_a_model_that_needs_too_much_memory_is_told_in_one_line(modules: str) -> None:
    model = {"type": "smokenets:Hungry", "forgets": 0}
    spec = own_spec(modules, model)
    with pytest.raises(BadInput, match=r"sgd: out of memory: .*Tried to allocate 9 GiB") as raised:
        smoke(spec)
    assert "\n" not in str(raised.value)


def test_divergence_within_the_rehearsal_is_shown_and_no_fault() -> None:
    knobs = {"sgd": {"lr": 1e30, "momentum": 0.0, "nesterov": False}}
    spec = make_spec(space={"optimizer": knobs, "clip_norm": [None]}, baselines="none")
    found = smoke(spec)
    check_smoke(found)
    assert found["optimizers"]["sgd"]["diverged_at"] is not None


def test_an_optimizer_without_a_published_default_is_drawn_from_its_space() -> None:
    knobs = {"torch.optim:Adagrad": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}}}
    config = first_config(make_spec(space={"optimizer": knobs}), "torch.optim:Adagrad")
    assert 1e-3 <= config.optimizer.lr <= 1e-2


def test_the_command_shows_plan_and_rehearsal(tmp_path: Path) -> None:
    spec = {"name": "tiny", "trial": SMALL, "space": {"optimizer": {"sgd": {}}}}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    command = ["check", str(tmp_path / "spec.yaml"), "--smoke"]
    shown = CliRunner().invoke(cli, [*command, "-o", "json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["full_trainings"] > 0 and found["smoke"]["optimizers"]["sgd"]
    shown = CliRunner().invoke(cli, command)
    assert "equal" in shown.output and "rungs" in shown.output
