"""What is taken home: to a folder, to S3, to the registry; and what MLflow gets at the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from support.books import Writer, curve, export_of
from support.specs import make_config

from search import run as main
from search.answer.report import write_report
from search.engine.analysis import best
from search.errors import BadInput
from search.execution.ahead import trace
from search.history.folder import Folder
from search.history.home import Home
from search.takeaway.export import export
from search.takeaway.files import write_export
from search.takeaway.hf_args import hf_args
from search.tracking.recorder import Recorder
from trainable.actor import checkpoint
from trainable.config import TrialConfig
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.exported import Exported
from trainable.report import report, sample
from trainable.train import TrainState, train_until

FILES = {"config.yaml", "model.safetensors", "metrics.json", "README.md"}


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


@pytest.fixture
def search(home: Path, data: Data) -> tuple[Folder, Home, Writer]:
    """A finished search of two optimizers, with a real checkpoint of each winner."""
    writer = Writer(space={"optimizer": {"adam": {}, "sgd": {}}}, budget={"trials": 2})
    found = Home()
    folder = Folder(found.path / "tiny-000000")
    for optimizer, lr in (("adam", 1e-3), ("sgd", 0.1)):
        number = len(writer.book.trials)
        config = writer.spec.trial.resolve(optimizer={"type": optimizer, "lr": lr}, threads=1)
        state = TrainState(config, data)
        train_until(state, config.samples)
        last = report(state)
        writer.trial(optimizer, lr, [*curve(0.9)[:-1], {**curve(0.9)[-1], **last}])
        checkpoint.save(state, folder.trial(number) / checkpoint.NAME, last)
    writer.finish()
    folder.path.mkdir(exist_ok=True)
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in writer.events))
    return folder, found, writer


Search = tuple[Folder, Home, Writer]


def test_each_optimizers_best_goes_to_a_folder_of_its_own(search: Search, tmp_path: Path) -> None:
    folder, home, writer = search
    result = export(folder, home, str(tmp_path / "out"), per_optimizer=True)
    assert [row["optimizer"] for row in result["exported"]] == ["adam", "sgd"]
    for trial in writer.book.trials.values():
        there = tmp_path / "out" / trial.optimizer
        assert {path.name for path in there.iterdir()} == FILES
        config = YAML(typ="safe").load((there / "config.yaml").read_text())
        assert TrialConfig.model_validate(config) == TrialConfig.model_validate(trial.config)
        metrics = json.loads((there / "metrics.json").read_text())
        assert metrics["val_loss"] == trial.last("val_loss")
        text = (there / "README.md").read_text()
        for word in ("license:", "dataset_license:", "digits", "seed 0", "torch 2."):
            assert word in text


def test_an_exported_model_samples_what_the_training_sampled(
    search: Search, data: Data, tmp_path: Path
) -> None:
    folder, _, writer = search
    trial = writer.book.trials[0]
    write_export(folder, writer.book, trial, tmp_path / "out")
    state = TrainState(TrialConfig.model_validate(trial.config), data)
    checkpoint.load(state, folder.trial(0) / checkpoint.NAME)
    expected = sample(state, trial.reports[-1]["weights"], 4, steps=5)
    assert torch.equal(Exported(tmp_path / "out").sample(4, steps=5), expected)


def test_a_class_conditional_model_is_exported_with_its_classes(tmp_path: Path) -> None:
    _, export = export_of(make_config(dataset={"type": "digits", "labels": True}), tmp_path)
    exported = Exported(export)
    assert exported.examples[:2] == ((1, 8, 8), 10)
    assert exported.sample(3, steps=2).shape == (3, 1, 8, 8)
    assert exported.sample(3, steps=2, labels=[9, 9, 0]).shape == (3, 1, 8, 8)
    for wrong in ([0, 10, 1], [0, 1], [0.0, 1.0, 2.0], [-1, 0, 1]):
        with pytest.raises(ValueError, match="want 3 classes from 0 to 9"):
            exported.sample(3, labels=wrong)


def test_a_model_of_a_table_samples_beyond_the_range_of_images(tmp_path: Path) -> None:
    config = make_config(
        model={"type": "mlp", "width": 16}, dataset={"type": "table", "name": "wine"}
    )
    state, export = export_of(config, tmp_path)
    drawn = Exported(export).sample(4, steps=2)
    assert torch.equal(drawn, sample(state, "raw", 4, steps=2)) and drawn.abs().max() > 1


def test_what_is_not_the_models_to_say_is_refused(tmp_path: Path) -> None:
    exported = Exported(export_of(make_config(), tmp_path)[1])
    with pytest.raises(ValueError, match="trained without"):
        exported.sample(2, labels=[0, 1])
    exported.config = exported.config.model_copy(update={"loss": "mine.process:loss"})
    with pytest.raises(ValueError, match=r"mine\.process:loss: its own code has to sample it"):
        exported.sample(2)


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as an upload needs."""

    stored: dict[str, int]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "forbidden" in self.path:
            self.send_error(403)
            return
        type(self).stored[self.path] = len(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    Bucket.stored = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield Bucket.stored
    server.shutdown()
    server.server_close()


def test_an_export_to_s3_puts_every_file_under_the_prefix(
    search: Search, bucket: dict[str, int]
) -> None:
    folder, home, _ = search
    export(folder, home, "s3://models/digits/best")
    assert set(bucket) == {f"/models/digits/best/{name}" for name in FILES}
    assert all(bucket.values())
    with pytest.raises(BadInput, match="s3://forbidden"):
        export(folder, home, "s3://forbidden/x")


BAD = ["gs://bucket/x", "models:/a/b", "models:x", "s3:///x", "/dev/null/x"]


@pytest.mark.parametrize("to", BAD)
def test_a_target_that_wont_do_is_one_clear_line(to: str, search: Search) -> None:
    folder, home, _ = search
    with pytest.raises(BadInput, match=r"^--to "):
        export(folder, home, to)


def test_nothing_complete_is_nothing_to_export(home: Path) -> None:
    writer = Writer()
    folder = Folder(Home().path / "tiny-000000")
    folder.path.mkdir(parents=True)
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in writer.events))
    with pytest.raises(BadInput, match="no trial is complete"):
        export(folder, Home(), "out")


def test_a_trial_whose_weights_were_not_kept_says_which_were(
    search: Search, tmp_path: Path
) -> None:
    folder, home, _ = search
    (folder.trial(0) / checkpoint.NAME).unlink()
    with pytest.raises(BadInput, match=r"weights were not kept.*trials with weights: 1\)"):
        export(folder, home, str(tmp_path / "out"), number=0)
    export(folder, home, str(tmp_path / "out"), number=1)
    written = (tmp_path / "out" / name for name in ("config.yaml", "model.safetensors"))
    modes = {path.stat().st_mode for path in written}
    assert len(modes) == 1


def test_hf_args_map_what_the_script_knows_and_list_the_rest() -> None:
    config = make_config(
        {"type": "adamw", "lr": 3e-3, "beta1": 0.95, "weight_decay": 1e-6},
        steps=100,
        batch_size=16,
        warmup=0.05,
        lr_schedule="cosine",
        clip_norm=1.0,
        ema=("power-0.75",),
    )
    flags, missing = hf_args(config, train_examples=320)
    assert flags == [
        "--train_batch_size=16",
        "--num_epochs=5",
        "--learning_rate=0.003",
        "--lr_scheduler=cosine",
        "--lr_warmup_steps=5",
        "--adam_beta1=0.95",
        "--adam_beta2=0.999",
        "--adam_weight_decay=1e-06",
        "--adam_epsilon=1e-08",
        "--use_ema",
        "--ema_power=0.75",
        "--prediction_type=epsilon",
        "--ddpm_num_steps=1000",
        "--ddpm_beta_schedule=squaredcos_cap_v2",
    ]
    assert [line.split()[0] for line in missing] == ["the", "model", "dataset", "seed"]
    other = make_config({"type": "sgd", "lr": 0.1}, clip_norm=None, lr_schedule="wsd")
    flags, missing = hf_args(other, 320)
    assert not any("adam" in flag for flag in flags)
    for word in ("optimizer sgd", "lr_schedule wsd", "clip_norm None", "ema"):
        assert any(line.startswith(word) for line in missing)


@pytest.mark.ray  # no Ray, but seconds of MLflow
@pytest.mark.filterwarnings("ignore")  # of what MLflow imports
def test_the_parent_run_gets_report_dataset_and_a_model_that_samples(
    search: Search, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    from search.takeaway.publish import publish

    folder, home, writer = search
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with Recorder(writer.spec, folder, home):
        pass
    content, top = write_report(folder, writer.book), best(writer.book)
    assert top is not None
    trace(folder, top.number)  # as is done ahead of time
    monkeypatch.setattr(
        "search.takeaway.logged_model.write_graph", None
    )  # so that it is not done again
    for _ in range(2):  # the second time changes nothing
        assert publish(folder, home, writer.book, content, data) is None
    assert not folder.graphs.exists()
    client = mlflow.MlflowClient(f"sqlite:///{home.store}")
    experiment = client.get_experiment_by_name("tiny")
    parent = next(
        run
        for run in client.search_runs([experiment.experiment_id])
        if run.info.run_name == folder.id
    )
    assert parent.info.status == "FINISHED"
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.json", "plots", "spec.yaml"} <= artifacts
    assert len(client.get_metric_history(parent.info.run_id, "best/adam")) == 1
    names = sorted(entry.dataset.name for entry in parent.inputs.dataset_inputs)
    assert names == ["digits/test", "digits/training", "digits/validation"]
    assert len(parent.outputs.model_outputs) == 1

    result = export(folder, home, "models:/tiny")
    assert (result["to"], result["version"]) == ("models:/tiny", "1")
    mlflow.set_tracking_uri(f"sqlite:///{home.store}")
    try:
        model = mlflow.pyfunc.load_model("models:/tiny@champion")
        x = model.predict(pd.DataFrame({"count": [3]}), params={"steps": 2, "seed": 5})
        again = model.predict(pd.DataFrame({"count": [3]}), params={"steps": 2, "seed": 5})
        network = mlflow.pytorch.load_model("models:/tiny@champion")
        assert network(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape == (2, 1, 8, 8)
    finally:
        mlflow.set_tracking_uri("")
    assert x.shape == (3, 1, 8, 8) and (x == again).all()
    assert list(Path().iterdir()) == []  # MLflow left nothing where the user stood
    assert any((home.artifacts / "tiny").rglob("MLmodel"))


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.ray  # no Ray, but seconds of MLflow
@pytest.mark.filterwarnings("ignore")  # of what MLflow imports
def test_what_a_driver_killed_behind_its_report_left_undone_resume_does(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    folder, home, writer = search
    write_report(folder, writer.book)
    with Recorder(writer.spec, folder, home):
        pass
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mlflow.MlflowClient, "log_model_artifacts", killed)
        main.bring_answer(folder, home, writer.book)
    main.catch_up(writer.spec, folder, home)
    client = mlflow.MlflowClient(f"sqlite:///{home.store}")
    experiment = client.get_experiment_by_name("tiny")
    query = f"attributes.run_name = '{folder.id}'"
    (parent,) = client.search_runs([experiment.experiment_id], query)
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.json", "plots"} <= artifacts
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.status == "READY" and model.model_id == parent.data.tags["diffsweep.model"]
    monkeypatch.setattr(main, "publish", None)  # the second time nothing is left to do
    main.catch_up(writer.spec, folder, home)


def test_a_tracking_server_that_is_away_costs_the_report_nothing(
    search: Search, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.takeaway.publish import publish

    folder, home, writer = search
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    content = write_report(folder, writer.book)
    problem = publish(folder, home, writer.book, content, data)
    assert problem is not None and "does not answer" in problem
    assert (folder.report / "report.html").exists()
