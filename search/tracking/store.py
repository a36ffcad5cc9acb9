"""What MLflow holds of a search: a parent run, and a child run for each trial."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from search.answer.describe import describe_search, describe_trial, name, yaml_text
from search.engine.analysis import best, by_optimizer, front, objectives, ranked
from search.history.book import Book, Event, Trial
from search.history.folder import Folder
from search.history.home import Home
from search.spec.spec import SearchSpec
from search.tracking.batch import Batch, News, Point
from search.tracking.embedded import make_store
from search.tracking.server import client_of
from search.tracking.views import colour, view_tags
from trainable.metrics import END_METRICS

MOST = 800  # metrics in one call; MLflow takes a thousand entries, of which some are tags
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

EXPERIMENT_NOTE = """\
Each run here is a search of `diffsweep`; its child runs are the trials. Under **Views**, \
*Complete trials, best first* ranks them and *Best curves by optimizer* compares optimizers. \
Open a search's own run for what was asked and what won.
"""


class Store:
    """One search in MLflow: a parent run, and a child run for each trial."""

    def __init__(self, uri: str, spec: SearchSpec, folder: Folder, home: Home) -> None:
        self.client = client_of(uri, retries=0, timeout=10)  # the recorder tries again
        self.spec, self.folder = spec, folder
        if embedded := uri == home.store_uri:
            make_store(home)
        self.experiment = self._experiment(home.artifacts if embedded else None)
        if embedded:
            with sqlite3.connect(home.store) as database:
                database.execute("PRAGMA journal_mode=WAL")
        self.runs: dict[int | None, str] = self._known_runs()  # trial -> run; None: the parent

    def deliver(self, book: Book, batch: Batch) -> None:
        """Bring to the runs what happened in a batch, after which the book stands as it does."""
        if batch.started is not None:
            self._start(book, batch.started)
        for number, news in batch.trials.items():
            self._trial(book.trials[number], news)
        if batch.finished is not None:
            self._finish(book, batch.finished)

    def _trial(self, trial: Trial, news: News) -> None:
        """One call for all values of a trial; the same ones twice are fine."""
        run = self.runs[trial.number] if news.asked is None else self._ask(trial, news.asked)
        ended = trial.shown in RUN_STATUS
        self._log(
            run,
            news.points + (ends(trial) if ended else []),
            {} if news.asked is None else flat(trial.config),
            {"diffsweep.state": trial.shown} | (why(trial) if ended else {}),
        )
        if ended:
            self.client.log_text(run, yaml_text(trial.config), "config.yaml")
            self._samples(run, trial)
            self.client.set_terminated(run, RUN_STATUS[trial.shown], trial.ended)
        elif news.began and trial.ended is not None:  # it was paused, and its run closed
            self.client.update_run(run, status="RUNNING")

    def _log(
        self, run: str, points: list[Point], params: dict[str, Any], tags: dict[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in points]
        while len(metrics) > MOST:
            self.client.log_batch(run, metrics=metrics[:MOST])
            metrics = metrics[MOST:]
        self.client.log_batch(
            run,
            metrics,
            [Param(key, in_yaml(value)) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )

    def _experiment(self, artifacts: Path | None) -> str:
        name = self.spec.experiment
        metric, mode = self.spec.aims[0]
        if found := self.client.get_experiment_by_name(name):
            identifier: str = found.experiment_id
            for key, value in view_tags(mode).items():
                if key not in found.tags:
                    self.client.set_experiment_tag(identifier, key, value)
            return identifier
        location = (artifacts / name).as_uri() if artifacts else None
        tags = view_tags(mode) | {
            "mlflow.experimentKind": "custom_model_development",  # not the view for agents
            "mlflow.experiment.primaryMetric.name": metric,
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(mode == "max"),
            "mlflow.note.content": EXPERIMENT_NOTE,
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
                tags={
                    "diffsweep.search": self.folder.id,
                    "mlflow.user": _user(),
                    "mlflow.source.name": "diffsweep",
                    **tags,
                },
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

    def _ask(self, trial: Trial, time: int) -> str:
        return self._create(
            trial.number,
            name(trial),
            time,
            {
                "mlflow.parentRunId": self.runs[None],
                "diffsweep.trial": str(trial.number),
                "diffsweep.optimizer": trial.optimizer,
                "diffsweep.stage": trial.stage,
                "diffsweep.state": "pending",
                "mlflow.runColor": colour(trial.optimizer, self.spec.optimizers),
            },
        )

    def _samples(self, run: str, trial: Trial) -> None:
        """The sample grid of a trial, as an image at its last step."""
        grid = self.folder.grid(trial.number)
        if grid.exists() and not self.client.list_artifacts(run, "images"):
            from PIL import Image

            with Image.open(grid) as image:
                self.client.log_image(run, image, key="samples", step=trial.reports[-1]["step"])

    def _finish(self, book: Book, event: Event) -> None:
        parent, time = self.runs[None], event["time"]
        tags = {"diffsweep.state": book.state, "mlflow.note.content": describe_search(book)}
        points: list[Point] = [
            (f"best_val_loss_{optimizer.replace(':', '.')}", row["best"]["val_loss"], time, 0)
            for optimizer, row in by_optimizer(book).items()
            if row["best"]
        ]
        if (trial := best(book)) is not None:
            tags["diffsweep.best_trial"] = str(trial.number)
            step, last = trial.reports[-1]["step"], trial.reports[-1]
            names = ("val_loss", *(f"val_loss_q{q}" for q in range(1, 5)))
            points += [(name, last[name], time, step) for name in names]
            self.client.log_text(parent, yaml_text(trial.config), "best/config.yaml")
            self._samples(parent, trial)
        self._mark_front(book)
        self._log(parent, points, {}, tags)
        self.client.set_terminated(parent, SEARCH_STATUS[book.state], time)

    def _mark_front(self, book: Book) -> None:
        """With several objectives, tag each complete trial: whether the front has it."""
        if len(objectives(book)) > 1:
            best = {trial.number for trial in front(book)}
            for trial in ranked(book):
                is_best = str(trial.number in best).lower()
                self.client.set_tag(self.runs[trial.number], "diffsweep.pareto", is_best)


def ends(trial: Trial) -> list[Point]:
    """What is known of a trial at its end alone; one that is paused may go on."""
    if trial.shown == "paused" or not trial.reports or trial.ended is None:
        return []
    last, time = trial.reports[-1], trial.ended
    known = {name: last[name] for name in END_METRICS if last.get(name) is not None}
    return [(name, value, time, last["step"]) for name, value in known.items()]


def why(trial: Trial) -> dict[str, str]:
    """What there is to read about a trial that has ended, as tags."""
    tags = {"mlflow.note.content": describe_trial(trial)}
    if trial.why:
        tags["diffsweep.why"] = trial.why[-5000:]
    if trial.reports and (error := trial.reports[-1].get("quality_error")):
        tags["diffsweep.quality_error"] = error[:5000]
    return tags


def in_yaml(value: Any) -> str:
    """A value as a config says it: null and true, not None and True."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


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


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
