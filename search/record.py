"""The one path to MLflow: a thread that follows the history and delivers it in batches.

Training never waits for it. What is delivered twice is stored once, since a run is looked up by
its tags before it is made, and a metric keeps the time of its event. While MLflow is away, the
history is the spool; `diffsweep resume` delivers what is left.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.analysis import best
from search.describe import describe_search
from search.errors import BadInput
from search.history import Book, Event, Trial
from search.home import Folder, Home
from search.spec import SearchSpec
from trainable.metrics import END_METRICS, REPORT_METRICS

BATCH = 500  # events delivered in one go
PERIOD = 1.0  # seconds between deliveries
LONGEST_WAIT = 30.0  # seconds between attempts while MLflow is away
PATIENCE = 60.0  # seconds to deliver the rest when the search has ended
RUN_STATUS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "paused": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "cancelled": "KILLED",
}
SEARCH_STATUS = {
    "complete": "FINISHED",
    "stopped": "FINISHED",
    "cancelled": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
logger = logging.getLogger("diffsweep.record")


def tracking_uri(spec: SearchSpec, home: Home) -> str:
    """Where this search is recorded: the spec's, the environment's, or the embedded store."""
    return spec.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.store}"


def check_reachable(uri: str) -> None:
    """Look whether the tracking server answers.

    Raises:
        BadInput: it does not, or MLflow has no such kind of store.
    """
    scheme = uri.partition(":")[0]
    if scheme in ("http", "https"):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()  # noqa: S310
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise BadInput(f"tracking.uri: {uri} does not answer: {reason}") from error
    elif scheme not in ("sqlite", "postgresql", "mysql", "mssql", "postgresql+psycopg2"):
        raise BadInput(
            f"tracking.uri: {uri} is no store that diffsweep can use; "
            "want http(s)://host:port, sqlite:///file or postgresql://..."
        )


class Recorder:
    """Delivers the history of one search to MLflow."""

    def __init__(self, spec: SearchSpec, folder: Folder, home: Home) -> None:
        self.spec, self.folder, self.home = spec, folder, home
        self.uri = tracking_uri(spec, home)
        self.offset, _ = delivered(folder)
        self.error: str | None = None  # why the last delivery failed
        self._book = Book()  # the search as far as it is delivered
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Deliver what is left, for as long as it is worth waiting."""
        self._closing.set()
        self._wake.set()
        self._thread.join(PATIENCE)

    @property
    def undelivered(self) -> int:
        """Bytes of history that MLflow does not have yet."""
        return self.folder.history.stat().st_size - self.offset

    def _work(self) -> None:
        wait, store = PERIOD, None
        deadline = float("inf")
        while True:
            closing = self._closing.is_set()
            if closing:
                deadline = min(deadline, time.monotonic() + PATIENCE)
            try:
                store = store or Store(self.uri, self.spec, self.folder, self.home)
                while batch := list(self._next_batch()):
                    self._deliver(store, batch)
                wait, self.error = PERIOD, None
                if closing:
                    return
            except Exception as error:  # whatever it is, training goes on and we try again
                logger.warning("MLflow: %s", error)
                self.error = str(error).splitlines()[0]
                self._book = Book()  # read again up to what is delivered
                wait = min(2 * wait, LONGEST_WAIT)
                if time.monotonic() > deadline:
                    return
            self._wake.wait(wait)
            if self._closing.is_set():
                self._wake.clear()
                time.sleep(0 if self.error is None else 1)

    def _next_batch(self) -> Iterator[tuple[Event, int]]:
        """Events after the offset, each with the offset behind it."""
        with self.folder.history.open("rb") as file:
            if not self._book.sessions and self.offset:  # catch up with what was delivered before
                while file.tell() < self.offset:
                    self._book.apply(json.loads(file.readline()))
            file.seek(self.offset)
            for _ in range(BATCH):
                line = file.readline()
                if not line.endswith(b"\n"):
                    return
                yield json.loads(line), file.tell()

    def _deliver(self, store: Store, batch: list[tuple[Event, int]]) -> None:
        """Deliver a batch; the offset moves only when all of it is there."""
        store.deliver(self._book, [event for event, _ in batch])
        self.offset = batch[-1][1]
        runs = {str(trial): run for trial, run in store.runs.items() if trial is not None}
        draft = self.folder.delivered.with_suffix(".draft")
        draft.write_text(json.dumps({"offset": self.offset, "runs": runs}))
        draft.replace(self.folder.delivered)


class Store:
    """One search in MLflow: a parent run, and a child run for each trial."""

    def __init__(self, uri: str, spec: SearchSpec, folder: Folder, home: Home) -> None:
        os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.client = MlflowClient(uri)
        self.spec, self.folder = spec, folder
        embedded = uri == f"sqlite:///{home.store}"
        self.experiment = self._experiment(home.artifacts if embedded else None)
        if embedded:
            with sqlite3.connect(home.store) as database:
                database.execute("PRAGMA journal_mode=WAL")
        self.runs: dict[int | None, str] = self._known_runs()  # trial -> run; None: the parent

    def deliver(self, book: Book, events: list[Event]) -> None:
        """Apply events to `book` and to the runs: metrics together, the rest in order."""
        from mlflow.entities import Metric

        metrics: dict[int, list[Metric]] = {}
        endings: list[tuple[Trial, Event]] = []
        for event in events:
            book.apply(event)
            match event["event"]:
                case "start":
                    self._start(book, event)
                case "ask":
                    self._ask(book.trials[event["trial"]], event)
                case "report":
                    step = event["metrics"]["step"]
                    metrics.setdefault(event["trial"], []).extend(
                        Metric(name, event["metrics"][name], event["time"], step)
                        for name in REPORT_METRICS
                        if name in event["metrics"]
                    )
                case "begin":
                    self._tag(event["trial"], "running")
                case "end":
                    endings.append((book.trials[event["trial"]], event))
        for number, points in metrics.items():
            for start in range(0, len(points), 1000):  # MLflow's limit for one call
                self.client.log_batch(self.runs[number], metrics=points[start : start + 1000])
        for trial, event in endings:
            self._end(trial, event)
        for event in events:
            if event["event"] == "finish":
                self._finish(book, event)

    def _experiment(self, artifacts: Path | None) -> str:
        name = self.spec.tracking.experiment or self.spec.name
        if found := self.client.get_experiment_by_name(name):
            identifier: str = found.experiment_id
            return identifier
        location = (artifacts / name).as_uri() if artifacts else None
        metric, mode = self.spec.objective.metric, self.spec.objective.mode
        tags = {
            "mlflow.experimentKind": "custom_model_development",  # not the view for agents
            "mlflow.experiment.primaryMetric.name": metric,
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(mode == "max"),
        }
        created: str = self.client.create_experiment(name, location, tags)
        return created

    def _known_runs(self) -> dict[int | None, str]:
        runs: dict[int | None, str] = {}
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                f"tags.`diffsweep.search` = '{self.folder.id}'",
                max_results=1000,
                page_token=token,
            )
            for run in page:
                number = run.data.tags.get("diffsweep.trial")
                runs[None if number is None else int(number)] = run.info.run_id
            if not (token := page.token):
                return runs

    def _create(self, number: int | None, name: str, time_ms: int, tags: dict[str, str]) -> str:
        """The run of a trial, or the parent; made if it is not there yet."""
        if number not in self.runs:
            run = self.client.create_run(
                self.experiment,
                start_time=time_ms,
                tags={"diffsweep.search": self.folder.id, "mlflow.user": _user(), **tags},
                run_name=name,
            )
            self.runs[number] = run.info.run_id
        return self.runs[number]

    def _start(self, book: Book, event: Event) -> None:
        known = None in self.runs
        parent = self._create(None, self.folder.id, event["time"], {"diffsweep.state": "running"})
        self.client.set_tag(parent, "mlflow.note.content", describe_search(book))
        if known:
            self.client.update_run(parent, status="RUNNING")
            self.client.set_tag(parent, "diffsweep.state", "running")
        self.client.log_text(parent, yaml_text(book.spec), "spec.yaml")

    def _ask(self, trial: Trial, event: Event) -> None:
        from mlflow.entities import Param

        if trial.number in self.runs:
            return
        run = self._create(
            trial.number,
            f"{trial.optimizer}-{trial.number}",
            event["time"],
            {
                "mlflow.parentRunId": self.runs[None],
                "diffsweep.trial": str(trial.number),
                "diffsweep.optimizer": trial.optimizer,
                "diffsweep.stage": trial.stage,
                "diffsweep.state": "pending",
            },
        )
        params = [Param(key, str(value)) for key, value in flat(trial.config).items()]
        self.client.log_batch(run, params=params)

    def _tag(self, number: int, state: str) -> None:
        self.client.set_tag(self.runs[number], "diffsweep.state", state)

    def _end(self, trial: Trial, event: Event) -> None:
        from mlflow.entities import Metric, RunTag

        run, last = self.runs[trial.number], trial.reports[-1] if trial.reports else {}
        metrics = [
            Metric(name, last[name], event["time"], last["step"])
            for name in END_METRICS
            if last.get(name) is not None
        ]
        tags = [RunTag("diffsweep.state", trial.state)]
        if trial.why:
            tags.append(RunTag("diffsweep.why", trial.why[-5000:]))
        self.client.log_batch(run, metrics=metrics, tags=tags)
        self.client.log_text(run, yaml_text(trial.config), "config.yaml")
        grid = self.folder.trial(trial.number) / "samples.png"
        if grid.exists() and not self.client.list_artifacts(run, "images"):
            from PIL import Image

            with Image.open(grid) as image:
                self.client.log_image(run, image, key="samples", step=last["step"])
        self.client.set_terminated(run, RUN_STATUS[trial.state], event["time"])

    def _finish(self, book: Book, event: Event) -> None:
        from mlflow.entities import Metric

        parent = self.runs[None]
        self.client.set_tag(parent, "diffsweep.state", book.state)
        self.client.set_tag(parent, "mlflow.note.content", describe_search(book))
        if (trial := best(book)) is not None:
            self.client.set_tag(parent, "diffsweep.best_trial", str(trial.number))
            step, now = trial.reports[-1]["step"], event["time"]
            names = ("val_loss", *(f"val_loss_q{q}" for q in range(1, 5)))
            points = [Metric(name, trial.reports[-1][name], now, step) for name in names]
            self.client.log_batch(parent, metrics=points)
        self.client.set_terminated(parent, SEARCH_STATUS[book.state], event["time"])


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """A config as MLflow parameters: `optimizer` = adamw, `optimizer.lr` = 0.001, ..."""
    params: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            for inner, content in value.items():
                params[key if inner == "type" else f"{key}.{inner}"] = content
        else:
            params[key] = value
    return params


def yaml_text(content: dict[str, Any]) -> str:
    """A mapping as YAML, for people."""
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    YAML(typ="safe", pure=True).dump(content, stream)
    return stream.getvalue()


def delivered(folder: Folder) -> tuple[int, dict[int, str]]:
    """How many bytes of the history MLflow has, and the run of each trial."""
    if not folder.delivered.exists():
        return 0, {}
    content = json.loads(folder.delivered.read_text())
    return content["offset"], {int(trial): run for trial, run in content["runs"].items()}


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
