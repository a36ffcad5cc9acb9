"""What MLflow holds of a search, against a real store and a real server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from support.servers import free_port, mlflow_server, wait_until
from support.specs import make_spec

from search.errors import BadInput, Fenced
from search.history.book import Book
from search.history.folder import Folder
from search.history.home import Home
from search.history.log import FORMAT, History
from search.spec.space import settings
from search.spec.spec import SearchSpec
from search.tracking import calls as calls_of
from search.tracking import recorder as record
from search.tracking import store
from search.tracking.recorder import Recorder, deliver_rest, delivered, experiment_of
from search.tracking.server import check_reachable, tracking_uri
from search.tracking.views import TAG
from trainable.metrics import END_METRICS, REPORT_METRICS

ENDS = ("complete", "pruned", "diverged", "failed", "cancelled", "paused")
STATUSES = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "cancelled": "KILLED",
    "paused": "FINISHED",
}


@contextmanager
def writing(path: Path) -> Iterator[History]:
    history = History(path)
    yield history
    history.close()


def tell(path: Path, spec: SearchSpec, search: str) -> None:
    """Write the history of a search with a trial for each way to end, three reports each."""
    with writing(path) as history:
        _tell(history, spec, search)


def _tell(history: History, spec: SearchSpec, search: str) -> None:
    history.write("start", search=search, spec=spec.model_dump(mode="json"), format=FORMAT)
    for number, state in enumerate(ENDS):
        ask(history, spec, number)
        for step in (4, 8, 12):
            history.write("report", trial=number, metrics=metrics(number, step))
        history.write(
            "end", trial=number, state=state, why="because" if number > 1 else None, again=False
        )
    history.write("finish", state="complete", why="trials")


def ask(history: History, spec: SearchSpec, number: int) -> None:
    optimizer = ("adam", "sgd")[number % 2]
    chosen = {"optimizer": optimizer, f"{optimizer}.lr": 0.01, "clip_norm": None, "warmup": 0.02}
    config = spec.trial.resolve(**settings(chosen)).model_dump(mode="json")
    history.write(
        "ask", trial=number, stage="search", chosen=chosen, config=config, baseline=number == 0
    )
    history.write("begin", trial=number)


def metrics(trial: int, step: int) -> dict[str, Any]:
    values = {name: trial + step / 100 + i for i, name in enumerate(REPORT_METRICS)}
    ends = dict.fromkeys(END_METRICS, 1000) | {"parameters": 100}
    failed = {"quality_error": "quality: not finite"} if trial == 0 else {}
    return values | ends | {"step": step, "samples": 8 * step, "weights": "raw"} | failed


@pytest.fixture
def spec() -> SearchSpec:
    return make_spec(space={"optimizer": ["adam", "sgd"]})


@pytest.fixture
def folder(home: Path) -> Folder:
    Home().prepare()
    return Home().new("tiny")


@pytest.fixture
def by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a store that is no file of this machine."""
    monkeypatch.setattr(store, "tables", lambda: None)


@pytest.fixture(params=["rows", "calls"])
def either_way(request: pytest.FixtureRequest) -> None:
    if request.param == "calls":
        request.getfixturevalue("by_calls")


def deliver(spec: SearchSpec, folder: Folder) -> None:
    """Deliver all that the history holds."""
    with Recorder(spec, folder, Home()) as recorder:
        pass
    assert recorder.undelivered == 0, recorder.error


def content(uri: str) -> tuple[Run, dict[int, Run], MlflowClient]:
    """The parent, and the children by trial."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    runs = [client.get_run(run.info.run_id) for run in runs]
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {int(run.data.tags["diffsweep.trial"]): run for run in runs if run is not parent}
    assert len(children) == len(runs) - 1
    return parent, children, client


def assert_all_there(uri: str, spec: SearchSpec, folder: Folder) -> None:
    """Everything of `tell` is in MLflow, and once."""
    parent, children, client = content(uri)
    assert parent.info.run_name == folder.id and parent.info.status == "FINISHED"
    assert parent.data.tags["diffsweep.search"] == folder.id
    assert parent.data.tags["diffsweep.state"] == "complete"
    assert parent.data.tags["diffsweep.best_trial"] == "0"
    assert "adam-0" in parent.data.tags["mlflow.note.content"]
    best = metrics(0, 12)["val_loss"]  # the only complete trial's
    assert parent.data.metrics["val_loss"] == parent.data.metrics["best_val_loss_adam"] == best
    assert set(children) == set(range(len(ENDS)))
    assert children[0].data.tags["diffsweep.quality_error"] == "quality: not finite"
    assert "diffsweep.quality_error" not in children[1].data.tags
    for number, state in enumerate(ENDS):
        run = children[number]
        tags = run.data.tags
        optimizer = ("adam", "sgd")[number % 2]
        assert run.info.run_name == f"{optimizer}-{number}"
        assert run.info.status == STATUSES[state], state
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        expected = {
            "trial": str(number),
            "optimizer": optimizer,
            "stage": "search",
            "state": state,
        }
        for key, value in expected.items():
            assert tags[f"diffsweep.{key}"] == value
        assert state in tags["mlflow.note.content"]
        assert ("because" in tags["mlflow.note.content"]) == (number > 1)
        assert run.data.params["optimizer.lr"] == "0.01"
        assert run.data.params["clip_norm"] == "null"
        assert run.data.params["model"] == "unet"
        for name in REPORT_METRICS:
            history = client.get_metric_history(run.info.run_id, name)
            points = [(point.step, point.value) for point in history]
            assert points == [(step, metrics(number, step)[name]) for step in (4, 8, 12)]
        for name in () if state == "paused" else END_METRICS:  # a paused trial may go on
            points = client.get_metric_history(run.info.run_id, name)
            assert [(p.step, p.value) for p in points] == [(12, metrics(number, 12)[name])]
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert "config.yaml" in artifacts


@pytest.mark.usefixtures("either_way")
def test_the_embedded_store_holds_the_whole_search(spec: SearchSpec, folder: Folder) -> None:
    grid = folder.trial(0) / "samples.png"
    grid.parent.mkdir(parents=True)
    Image.new("L", (16, 16)).save(grid)
    tell(folder.history, spec, folder.id)
    deliver(spec, folder)
    uri = tracking_uri(spec, Home())
    assert_all_there(uri, spec, folder)
    parent, children, client = content(uri)
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert names == {"spec.yaml", "best", "images"}
    for run in (parent, children[0]):
        assert client.list_artifacts(run.info.run_id, "images")
    assert delivered(folder)[1] == {n: run.info.run_id for n, run in children.items()}
    assert experiment_of(folder) == parent.info.experiment_id
    assert (
        str(Home().artifacts) in client.get_experiment(parent.info.experiment_id).artifact_location
    )


def test_what_was_not_delivered_when_the_search_ended_is_delivered_later(
    spec: SearchSpec, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(folder.history, spec, folder.id)
    with monkeypatch.context() as away:
        away.setattr(record, "Store", lambda *_: 1 / 0)
        with pytest.raises(
            BadInput, match=f"{folder.id}: MLflow does not take the rest: division"
        ):
            away.setattr(record, "PATIENCE", 0.5)
            deliver_rest(spec, folder, Home())
    deliver_rest(spec, folder, Home())
    assert_all_there(tracking_uri(spec, Home()), spec, folder)


@pytest.mark.usefixtures("either_way")
def test_what_is_delivered_twice_is_there_once(spec: SearchSpec, folder: Folder) -> None:
    tell(folder.history, spec, folder.id)
    deliver(spec, folder)
    before = content(tracking_uri(spec, Home()))[1]
    folder.delivered.unlink()  # nobody knows any more what was delivered
    deliver(spec, folder)
    assert_all_there(tracking_uri(spec, Home()), spec, folder)
    after = content(tracking_uri(spec, Home()))[1]
    assert {n: run.info.run_id for n, run in after.items()} == {
        n: run.info.run_id for n, run in before.items()
    }


@pytest.mark.usefixtures("either_way")
def test_a_delivery_that_stops_anywhere_goes_on_there(spec: SearchSpec, folder: Folder) -> None:
    tell(folder.history, spec, folder.id)
    whole = folder.history.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (1, 3, 5, 6, 8, len(lines)):
        folder.history.write_bytes(b"".join(lines[:cut]))
        deliver(spec, folder)
    assert_all_there(tracking_uri(spec, Home()), spec, folder)


@pytest.mark.usefixtures("either_way")
def test_a_resumed_search_and_its_paused_trial_run_again(spec: SearchSpec, folder: Folder) -> None:
    start = {"search": folder.id, "spec": spec.model_dump(mode="json"), "format": FORMAT}
    with writing(folder.history) as history:
        history.write("start", **start)
        ask(history, spec, 0)
        history.write("end", trial=0, state="paused", why="interrupted", again=False)
        history.write("finish", state="interrupted", why=None)
    deliver(spec, folder)
    uri = tracking_uri(spec, Home())
    parent, children, _ = content(uri)
    assert (parent.info.status, children[0].info.status) == ("KILLED", "FINISHED")
    with writing(folder.history) as history:
        history.write("start", **start)
        history.write("begin", trial=0)
    deliver(spec, folder)
    parent, children, _ = content(uri)
    assert (parent.info.status, children[0].info.status) == ("RUNNING", "RUNNING")
    assert children[0].data.tags["diffsweep.state"] == "running"
    assert parent.data.tags["diffsweep.state"] == "running"


def test_the_experiment_has_views_that_people_can_change(spec: SearchSpec, folder: Folder) -> None:
    tell(folder.history, spec, folder.id)
    deliver(spec, folder)
    client = MlflowClient(tracking_uri(spec, Home()))
    experiment = client.get_experiment_by_name("tiny")
    views = [key for key in experiment.tags if key.startswith(TAG)]
    assert len(views) == 2
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "val_loss"
    client.set_experiment_tag(experiment.experiment_id, views[0], "changed")
    another = Home().new("tiny")
    tell(another.history, spec, another.id)
    deliver(spec, another)
    assert client.get_experiment_by_name("tiny").tags[views[0]] == "changed"


def test_a_server_that_goes_away_and_comes_back_has_everything_once(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PERIOD", 0.05)
    monkeypatch.setattr(record, "LONGEST_WAIT", 0.5)
    port = free_port()
    spec = make_spec(
        space={"optimizer": ["adam", "sgd"]}, tracking={"uri": f"http://127.0.0.1:{port}"}
    )
    tell(tmp_path / "told.jsonl", spec, folder.id)
    lines = (tmp_path / "told.jsonl").read_bytes().splitlines(keepends=True)
    with folder.history.open("ab", buffering=0) as history:
        history.write(b"".join(lines[:3]))
        with Recorder(spec, folder, Home()) as recorder:
            with mlflow_server(tmp_path, port) as uri:
                check_reachable(uri)
                wait_until(lambda: recorder.undelivered == 0)
                history.write(b"".join(lines[3:9]))
            history.write(b"".join(lines[9:20]))  # with the server gone
            wait_until(lambda: recorder.error is not None)
            assert recorder.undelivered > 0
            history.write(b"".join(lines[20:]))
            with mlflow_server(tmp_path, port) as uri:
                wait_until(lambda: recorder.undelivered == 0)
                assert_all_there(uri, spec, folder)
    assert recorder.error is None


def test_a_driver_that_nobody_waits_for_stays_until_the_server_is_back(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PERIOD", 0.05)
    monkeypatch.setattr(record, "PATIENCE", 0.5)
    port = free_port()
    spec = make_spec(
        space={"optimizer": ["adam", "sgd"]}, tracking={"uri": f"http://127.0.0.1:{port}"}
    )
    tell(folder.history, spec, folder.id)
    with Recorder(spec, folder, Home()) as attached:
        wait_until(lambda: attached.error is not None)
    assert attached.undelivered > 0
    with ExitStack() as stack:
        with Recorder(spec, folder, Home(), patience=120) as recorder:
            wait_until(lambda: recorder.error is not None)
            starting = Thread(target=lambda: stack.enter_context(mlflow_server(tmp_path, port)))
            starting.start()
        starting.join()
        assert recorder.undelivered == 0
        assert_all_there(f"http://127.0.0.1:{port}", spec, folder)


def test_a_driver_that_was_fenced_off_delivers_no_more(
    folder: Folder, spec: SearchSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "Store", lambda *_: 1 / 0)
    tell(folder.history, spec, folder.id)
    began = time.monotonic()
    with pytest.raises(Fenced), Recorder(spec, folder, Home(), patience=60) as recorder:
        wait_until(lambda: recorder.error is not None)
        raise Fenced("another driver has taken it over")
    assert recorder.undelivered > 0 and time.monotonic() - began < 30


@pytest.mark.usefixtures("by_calls")
def test_a_lost_answer_makes_no_second_run(
    spec: SearchSpec, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PERIOD", 0.01)
    create, lost = MlflowClient.create_run, []

    def lose_the_answer(*args: Any, **kwargs: Any) -> Run:
        run = create(*args, **kwargs)
        if len(lost) < 3:
            lost.append(run)
            raise TimeoutError("no answer")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", lose_the_answer)
    tell(folder.history, spec, folder.id)
    with Recorder(spec, folder, Home()) as recorder:
        wait_until(lambda: recorder.undelivered == 0)
    assert len(lost) == 3
    assert_all_there(tracking_uri(spec, Home()), spec, folder)


@pytest.mark.usefixtures("by_calls")
def test_a_trial_costs_four_calls_and_an_error_reads_nothing_again(
    spec: SearchSpec, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PERIOD", 0.01)
    monkeypatch.setattr(calls_of, "AT_ONCE", 1)  # or how many were made before the error is luck
    tell(folder.history, spec, folder.id)
    applied, calls = [], Counter[str]()
    apply, log = Book.apply, MlflowClient.log_batch
    monkeypatch.setattr(Book, "apply", lambda *args: (applied.append(args), apply(*args))[1])

    def fail_once(*args: Any, **kwargs: Any) -> None:
        calls["log_batch"] += 1
        if calls["log_batch"] == len(ENDS):
            raise TimeoutError("no answer")
        log(*args, **kwargs)

    def count(name: str) -> None:
        method = getattr(MlflowClient, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return method(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, counted)

    for name in ("create_run", "set_tag", "update_run", "log_text", "set_terminated"):
        count(name)
    monkeypatch.setattr(MlflowClient, "log_batch", fail_once)
    with Recorder(spec, folder, Home()) as recorder:
        wait_until(lambda: recorder.undelivered == 0)
    assert len(applied) == len(folder.history.read_bytes().splitlines())
    assert_all_there(tracking_uri(spec, Home()), spec, folder)
    again = len(ENDS) - 1  # delivered before the error, and once more after it
    assert calls["create_run"] == len(ENDS) + 1
    assert (
        calls["log_batch"] == len(ENDS) + again + 3
    )  # the one that failed, the parent's start and end
    assert calls["set_terminated"] == len(ENDS) + 1 + again
    assert calls["update_run"] <= 1  # the parent's, after the error


def test_undelivered_bytes_say_how_far_mlflow_lags(spec: SearchSpec, folder: Folder) -> None:
    tell(folder.history, spec, folder.id)
    recorder = Recorder(spec, folder, Home())
    assert recorder.undelivered == folder.history.stat().st_size
    deliver(spec, folder)
    assert delivered(folder)[0] == folder.history.stat().st_size


def test_a_note_of_deliveries_that_was_cut_short_counts_up_to_there(
    spec: SearchSpec, folder: Folder
) -> None:
    tell(folder.history, spec, folder.id)
    whole = folder.history.read_bytes()
    folder.history.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))
    deliver(spec, folder)
    first = delivered(folder)
    with folder.delivered.open("ab") as file:
        file.write(b'{"offset": 99999999, "runs": {"1": "')
    assert delivered(folder) == first
    folder.history.write_bytes(whole)
    deliver(spec, folder)
    assert_all_there(tracking_uri(spec, Home()), spec, folder)
    assert delivered(folder)[0] == len(whole) and set(delivered(folder)[1]) == set(
        range(len(ENDS))
    )
