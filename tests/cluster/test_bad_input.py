"""Bad input through the real command: one line a fault on stderr, exit code 2, nothing begun."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.paths import ROOT
from support.specs import UnusedRay

from cluster import cli
from search.history.home import Home

Command = Callable[..., tuple[int, list[str]]]
OWN_CODE = """
import numpy as np
from torch import nn


def digits_with_nan():
    x = np.zeros((20, 1, 8, 8), np.float32)
    x[[3, 7], 0, 0, 0] = np.nan
    return x


def single():
    return np.zeros((1, 1, 8, 8), np.float32)


def sentences():
    return np.array(["a"] * 20)


def unlabelled():
    return np.zeros((20, 1, 8, 8), np.float32), np.zeros(19, np.int64)


def points():
    return np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


def images_of_nine():
    return np.random.default_rng(0).random((20, 1, 9, 9), np.float32)


def flattening(shape):
    return Flat()


class Flat(nn.Module):
    def forward(self, x, t):
        return x.flatten(1)
"""


@pytest.fixture
def diffsweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command in this process; returns its exit code and the lines on stderr."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["diffsweep", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
        output = capsys.readouterr()
        if code:
            assert output.out == ""
        return code, output.err.replace(f"{tmp_path}/", "").splitlines()

    monkeypatch.setattr("search.execution.local.OwnRay", UnusedRay)
    return run


@pytest.fixture
def run_spec(diffsweep: Command, tmp_path: Path, home: Path) -> Callable[[str], list[str]]:
    """Runs `diffsweep run` on a spec that it has to refuse; returns the lines on stderr."""

    def run(text: str) -> list[str]:
        path = tmp_path / "spec.yaml"
        path.write_text(textwrap.dedent(text))
        code, lines = diffsweep("run", str(path))
        assert code == 2, lines
        assert not list(Home().searches())
        return lines

    return run


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_things.py").write_text(OWN_CODE)
    (tmp_path / "broken_things.py").write_text("1 / 0\n")
    (tmp_path / "unreadable_things.py").write_text("def (\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("own_things", "broken_things", "unreadable_things"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(
            "name: a\ntrial:\n  stpes: 10\n",
            ["spec.yaml:3:3 trial.stpes: unknown key, did you mean 'steps'?"],
            id="unknown key",
        ),
        pytest.param(
            "name: a\ntrial:\n  model: {type: unet, chanels: 16}\n",
            ["spec.yaml:3:23 trial.model.chanels: unknown key, did you mean 'channels'?"],
            id="unknown key of a shelf's entry",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {sgd: {momentun: 0.9}}}\n",
            ["spec.yaml:2:27 space.optimizer.sgd.momentun: unknown key, did you mean 'momentum'?"],
            id="unknown knob",
        ),
        pytest.param(
            "name: a\ntrial: {steps: many, batch_size: 3.5}\n",
            [
                "spec.yaml:2:22 trial.batch_size: expected a whole number, got 3.5",
                "spec.yaml:2:9 trial.steps: expected a whole number, got 'many'",
            ],
            id="wrong types",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {adam: {lr: {low: 1e-2, high: 1e-4, log: true}}}}\n",
            [
                "spec.yaml:2:28 space.optimizer.adam.lr: low must be less than high, "
                "got low 0.01, high 0.0001"
            ],
            id="low above high",
        ),
        pytest.param(
            "name: a\nspace: {warmup: {low: 0.1, high: 0.1}}\n",
            ["spec.yaml:2:9 space.warmup: low must be less than high, got low 0.1, high 0.1"],
            id="low equal to high",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {adam: {lr: {low: 0, high: 1e-4, log: true}}}}\n",
            ["spec.yaml:2:28 space.optimizer.adam.lr: a log range needs low above 0, got 0.0"],
            id="log range from zero",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {sgd: {momentum: {low: 0.5, high: 1.5}}}}\n",
            ["spec.yaml:2:27 space.optimizer.sgd.momentum: must be less than 1.0, got 1.5"],
            id="range beyond what the optimizer takes",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {sgd: {nesterov: {low: 0, high: 1}}}}\n",
            ["spec.yaml:2:27 space.optimizer.sgd.nesterov: expected true or false, got 0.0"],
            id="range of a switch",
        ),
        pytest.param(
            "name: a\nspace: {warmup: {low: .nan, high: 1}}\n",
            ["spec.yaml:2:18 space.warmup.low: must be finite, got nan"],
            id="range from NaN",
        ),
        pytest.param(
            "name: a\nspace: {lr_schedule: [constant, cosin]}\n",
            ["spec.yaml:2:9 space.lr_schedule: 'cosin' is not a choice, did you mean 'cosine'?"],
            id="unknown lr_schedule",
        ),
        pytest.param(
            "name: a\nspace: {clip_norm: []}\n",
            ["spec.yaml:2:9 space.clip_norm: a list of choices needs at least one"],
            id="no choices",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {}}\n",
            ["spec.yaml:2:9 space.optimizer: needs at least 1, got 0"],
            id="no optimizer",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: {adma: {}}}\n",
            [
                "spec.yaml:2:21 space.optimizer.adma: unknown optimizer 'adma', "
                "did you mean 'adam'?",
            ],
            id="unknown optimizer",
        ),
        pytest.param(
            "name: a\nobjective: {metric: val_los}\n",
            [
                "spec.yaml:2:13 objective.metric: 'val_los' is not a choice, "
                "did you mean 'val_loss'?"
            ],
            id="unknown metric",
        ),
        pytest.param(
            "name: a\ntrial: {ema: [power-2]}\n",
            [
                "spec.yaml:2:15 trial.ema.0: expected a decay below 1 such as 0.999, or "
                "power-0.75, whose decay at step n is 1 - (1 + n)^-0.75, got 'power-2'"
            ],
            id="unknown average of the weights",
        ),
        pytest.param(
            "name: a\ntrial: {dataset: {type: digit}}\n",
            ["spec.yaml:2:9 trial.dataset: unknown type 'digit', did you mean 'digits'?"],
            id="unknown dataset",
        ),
        pytest.param(
            "name: a\ntrial: {model: {type: unett}}\n",
            ["spec.yaml:2:9 trial.model: unknown type 'unett', did you mean 'unet'?"],
            id="unknown model",
        ),
        pytest.param(
            "name: a\ntrial: {model: unet}\n",
            ["spec.yaml:2:9 trial.model: expected a mapping with a 'type', got 'unet'"],
            id="model without a type",
        ),
        pytest.param(
            "name: a\ntrial: {steps: 100}\nscheduler: {grace_steps: 200}\n",
            [
                "spec.yaml:3:13 scheduler.grace_steps: 200 is beyond the budget of a trial, "
                "which is trial.steps = 100"
            ],
            id="grace beyond the budget",
        ),
        pytest.param(
            "name: a\nbudget: {trials: 0}\n",
            ["spec.yaml:2:10 budget.trials: must be at least 1, got 0"],
            id="zero trials",
        ),
        pytest.param(
            "name: a\nbudget: {wall_clock: soon}\n",
            [
                "spec.yaml:2:10 budget.wall_clock: expected a duration such as 90s, 30m or 2h, "
                "got soon"
            ],
            id="no duration",
        ),
        pytest.param(
            "name: a\nbaselines: [{optimizer: {type: adam, lr: 1e-3}, warmpu: 0.1}]\n",
            ["spec.yaml:2:49 baselines.0.warmpu: unknown key, did you mean 'warmup'?"],
            id="unknown key of a baseline",
        ),
        pytest.param(
            "name: a\nspace: {optimizer: [sgd]}\n"
            "baselines: [{optimizer: {type: adam, lr: 1e-3}}]\n",
            ["spec.yaml:3:13 baselines.0: optimizer 'adam' is not in space.optimizer"],
            id="baseline with an optimizer that is not searched",
        ),
        pytest.param(
            "name: ../elsewhere\n",
            [
                "spec.yaml:1:1 name: '../elsewhere' does not match "
                "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
            ],
            id="name that leads out of the home",
        ),
        pytest.param("trial: {steps: 99}\n", ["spec.yaml:1:1 name: missing"], id="no name"),
        pytest.param(
            "name: a\ntrial: {steps: 99}\nbudget: {trials: 2}\ntrial: {seed: 4}\n",
            ["spec.yaml: line 4: the key 'trial' is here twice, first in line 2"],
            id="key given twice",
        ),
        pytest.param(
            "name: a\nresources: {gpu: 1.5}\n",
            ["spec.yaml:2:13 resources.gpu: 1.5 GPUs: a fraction of one, or whole ones"],
            id="one and a half GPUs",
        ),
        pytest.param(
            "name: a\n  trial: [1,\n",
            ["spec.yaml: line 2: mapping values are not allowed here"],
            id="no YAML",
        ),
        pytest.param(
            "- a\n- b\n",
            ["spec.yaml: line 1: expected a mapping, got a list"],
            id="no mapping",
        ),
        pytest.param("", ["spec.yaml: line 1: expected a mapping, got null"], id="empty file"),
    ],
)
def test_a_spec_with_a_fault_is_refused(
    text: str, faults: list[str], run_spec: Callable[[str], list[str]]
) -> None:
    assert run_spec(text) == faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(
            "name: a\nresources: {gpu: 8}\n",
            "resources.gpu: a trial needs 8 GPUs, this machine has 0; lower resources.gpu",
            id="more GPUs than there are",
        ),
        pytest.param(
            "name: a\nresources: {cpu: 5000}\n",
            f"resources.cpu: a trial needs 5000 CPUs, this machine has {os.cpu_count()}; "
            "lower resources.cpu",
            id="more CPUs than there are",
        ),
        pytest.param(
            "name: a\ntrial: {device: cuda}\nresources: {gpu: 1}\n",
            "trial.device: torch finds no cuda device on this machine; want auto or cpu",
            id="CUDA without a GPU",
        ),
    ],
)
def test_a_machine_that_is_too_small_is_named(
    text: str,
    fault: str,
    run_spec: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run_spec(text) == [fault]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:9", "does not answer: [Errno 111] Connection refused"),
        ("sqlite:////proc/none/mlflow.db", "does not answer: unable to open database file"),
        (
            "ftp://somewhere",
            "is no store that diffsweep can use; want http(s)://host:port, sqlite:///file or "
            "postgresql://...",
        ),
    ],
)
def test_a_tracking_store_that_does_not_answer_is_named(
    uri: str, reason: str, run_spec: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_spec(f"name: a\ntracking: {{uri: '{uri}'}}\n") == [f"tracking.uri: {uri} {reason}"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert run_spec("name: a\n") == [f"tracking.uri: {uri} {reason}"]


def test_a_server_that_is_no_mlflow_is_no_tracking_store(
    run_spec: Callable[[str], list[str]],
) -> None:
    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        lines = run_spec(f"name: a\ntracking: {{uri: '{uri}'}}\n")
        server.shutdown()
    assert lines == [f"tracking.uri: {uri} does not answer: Not Found"]


def test_a_password_in_the_tracking_uri_is_not_shown(
    run_spec: Callable[[str], list[str]],
) -> None:
    (line,) = run_spec("name: a\ntracking: {uri: 'ftp://someone:secret@host/db'}\n")
    assert "secret" not in line and "ftp://someone:***@host/db" in line


@pytest.mark.parametrize("kind", ["a file in the way", "no right to write"])
def test_a_home_that_can_not_be_written_is_named(
    kind: str, diffsweep: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    home, reason = {
        "a file in the way": (str(tmp_path / "file" / "home"), "Not a directory"),
        "no right to write": ("/proc/diffsweep", "No such file or directory"),
    }[kind]
    monkeypatch.setenv("DIFFSWEEP_HOME", home)
    (tmp_path / "spec.yaml").write_text("name: a\n")
    shown = home.removeprefix(f"{tmp_path}/")
    assert diffsweep("run", str(tmp_path / "spec.yaml")) == (
        2,
        [f"DIFFSWEEP_HOME: can't write to {shown}: {reason}"],
    )


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize(
    ("section", "fault"),
    [
        pytest.param(
            "trial: {dataset: {type: 'own_things:digits_with_nan'}}",
            "own_things:digits_with_nan: 2 examples of 20 with NaN or infinity",
            id="NaN",
        ),
        pytest.param(
            "trial: {dataset: {type: 'own_things:single'}}",
            "own_things:single: 1 example, need at least",
            id="one example",
        ),
        pytest.param(
            "trial: {dataset: {type: 'own_things:sentences'}}",
            "own_things:sentences: got an array of <U1 with shape (20,), need floats ",
            id="no numbers",
        ),
        pytest.param(
            "trial: {dataset: {type: 'own_things:unlabelled'}}",
            "own_things:unlabelled: got labels of int64 with shape (19,), need whole numbers",
            id="a label short",
        ),
        pytest.param(
            "trial: {dataset: {type: 'own_things:points'}}",
            "got examples of shape (2,)",
            id="a U-Net on points",
        ),
        pytest.param(
            "trial: {dataset: {type: 'own_things:images_of_nine'}}",
            "multiples of 2, got examples of shape (1, 9, 9)",
            id="a U-Net on odd images",
        ),
        pytest.param(
            "trial: {model: {type: 'own_things:flattening'}}",
            "own_things:flattening answers shape (64,) to examples of shape (1, 8, 8)",
            id="a model that changes the shape",
        ),
        pytest.param(
            "trial: {model: {type: 'nowhere.models:Net'}}",
            "spec.yaml:2:17 trial.model.type: can't import 'nowhere.models:Net': no module named "
            "'nowhere'",
            id="no such module",
        ),
        pytest.param(
            "trial: {dataset: {type: 'own_things:points_of_view'}}",
            "spec.yaml:2:19 trial.dataset.type: can't import 'own_things:points_of_view': module "
            "'own_things' has no attribute 'points_of_view'",
            id="no such attribute",
        ),
        pytest.param(
            "trial: {model: {type: 'broken_things:Net'}}",
            "spec.yaml:2:17 trial.model.type: can't import 'broken_things:Net': "
            "ZeroDivisionError: division by zero",
            id="a module that raises",
        ),
        pytest.param(
            "trial: {model: {type: 'unreadable_things:Net'}}",
            "spec.yaml:2:17 trial.model.type: can't import 'unreadable_things:Net': "
            "SyntaxError: invalid syntax (unreadable_things.py, line 1)",
            id="a module that is no Python",
        ),
        pytest.param(
            "space: {optimizer: {'nowhere:Opt': {lr: 1e-3}}}",
            "spec.yaml:2:21 space.optimizer.nowhere:Opt: can't import 'nowhere:Opt': no module "
            "named 'nowhere'",
            id="no such optimizer of one's own",
        ),
    ],
)
def test_data_and_code_that_can_not_be_trained_are_named(
    section: str, fault: str, run_spec: Callable[[str], list[str]]
) -> None:
    (line,) = run_spec(f"name: a\n{section}\n")
    assert fault in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("run", "none.yaml"), "none.yaml: No such file or directory"),
        (("run", "/proc/self"), "/proc/self: Is a directory"),
        (("train", "none.yaml"), "none.yaml: No such file or directory"),
        (("run",), "diffsweep run: Missing argument 'SPEC'."),
        (("fly",), "diffsweep: No such command 'fly'."),
        (
            ("status", "digits-000000"),
            "digits-000000: no such search in home; `diffsweep ls` lists what is there",
        ),
        (("ui",), "home: no searches here yet; begin with: diffsweep run SPEC"),
    ],
)
def test_what_is_not_there_is_named(
    arguments: tuple[str, ...], line: str, diffsweep: Command
) -> None:
    assert diffsweep(*arguments) == (2, [line])


def test_a_spec_that_is_no_text_is_refused(diffsweep: Command, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert diffsweep("check", str(path)) == (2, ["spec.yaml: not a text file in UTF-8"])
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert diffsweep("check", str(path)) == (2, ["spec.yaml: larger than 1 MiB, which no spec is"])


def test_all_faults_of_a_config_are_told_at_once(diffsweep: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("optimizer: {type: adam, lr: -1}\nwarmup: 2\nstpes: 3\n")
    assert diffsweep("train", str(path)) == (
        2,
        [
            "config.yaml:1:25 optimizer.lr: must be more than 0.0, got -1",
            "config.yaml:2:1 warmup: must be at most 1.0, got 2",
            "config.yaml:3:1 stpes: unknown key, did you mean 'steps'?",
        ],
    )


def test_the_installed_command_refuses_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: a\ntrial: {stpes: 10}\n")
    command = [sys.executable, "-m", "cluster.cli", "run", "spec.yaml"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "spec.yaml:2:9 trial.stpes: unknown key, did you mean 'steps'?\n"
