"""What MLflow holds of a search: a parent run, and a child run for each trial."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from search.answer.describe import describe_search, describe_trial, name, yaml_text
from search.engine.analysis import best, by_optimizer, front, objectives, ranked
from search.history.book import Book, Event, Trial
from search.history.folder import Folder
from search.history.home import Home
from search.spec.spec import SearchSpec
from search.tracking.batch import Batch, News, Point
from search.tracking.calls import Calls
from search.tracking.change import Change, Writer, flat, in_yaml
from search.tracking.embedded import make_store
from search.tracking.rows import Rows, tables
from search.tracking.server import client_of
from search.tracking.views import colour, view_tags
from trainable.metrics import END_METRICS

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
        self.writer = self._writer(uri)
        self.runs: dict[int | None, str] = self._known_runs()  # trial -> run; None: the parent
        self._before = set(self.runs.values())  # they may hold more than this store has said

    def deliver(self, book: Book, batch: Batch) -> None:
        """Bring to the runs what happened in a batch, after which the book stands as it does."""
        if batch.started is not None:
            self._start(book, batch.started)
        changes = {
            number: self._change(book.trials[number], news)
            for number, news in batch.trials.items()
        }
        self.writer.write(list(changes.values()))
        for number, change in changes.items():
            assert change.run is not None
            self.runs[number] = change.run
            if change.ended is not None:
                self._samples(change.run, book.trials[number])
        if batch.finished is not None:
            self._finish(book, batch.finished)

    def _change(self, trial: Trial, news: News) -> Change:
        """All that a batch has of a trial; the same twice is fine."""
        change = Change(self.runs.get(trial.number), name(trial), points=news.points)
        if news.asked is not None:
            change.started, change.params = news.asked, flat(trial.config)
            change.tags = self._tags(trial)
        change.tags["diffsweep.state"] = trial.shown
        if trial.shown in RUN_STATUS:
            change.points = news.points + ends(trial)
            change.tags |= why(trial)
            change.texts["config.yaml"] = yaml_text(trial.config)
            change.status, change.ended = RUN_STATUS[trial.shown], trial.ended
        elif news.began and trial.ended is not None:  # it was paused, and its run closed
            change.status = "RUNNING"
        return change

    def _writer(self, uri: str) -> Writer:
        """Rows at once, where the store and its artifacts are files of this machine."""
        location = self.client.get_experiment(self.experiment).artifact_location
        if uri.startswith("sqlite:") and location.startswith("file:") and (known := tables()):
            return Rows(uri, self.experiment, location, known)
        return Calls(self.client, self.experiment)

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

    def _start(self, book: Book, event: Event) -> None:
        tags = self._about() | {
            "diffsweep.state": "running",
            "mlflow.note.content": describe_search(book),
        }
        parent = Change(self.runs.get(None), self.folder.id, event["time"], tags)
        parent.texts["spec.yaml"] = yaml_text(book.spec)
        if parent.run is not None:
            parent.status = "RUNNING"
        self.writer.write([parent])
        assert parent.run is not None
        self.runs[None] = parent.run

    def _about(self) -> dict[str, str]:
        return {
            "diffsweep.search": self.folder.id,
            "mlflow.user": _user(),
            "mlflow.source.name": "diffsweep",
        }

    def _tags(self, trial: Trial) -> dict[str, str]:
        return self._about() | {
            "mlflow.parentRunId": self.runs[None],
            "diffsweep.trial": str(trial.number),
            "diffsweep.optimizer": trial.optimizer,
            "diffsweep.stage": trial.stage,
            "mlflow.runColor": colour(trial.optimizer, self.spec.optimizers),
        }

    def _samples(self, run: str, trial: Trial) -> None:
        """The sample grid of a trial, as an image at its last step."""
        grid = self.folder.grid(trial.number)
        if not grid.exists() or (
            run in self._before and self.client.list_artifacts(run, "images")
        ):
            return
        from PIL import Image

        with Image.open(grid) as image:
            self.client.log_image(run, image, key="samples", step=trial.reports[-1]["step"])

    def _finish(self, book: Book, event: Event) -> None:
        parent, time = self.runs[None], event["time"]
        tags = {"diffsweep.state": book.state, "mlflow.note.content": describe_search(book)}
        texts: dict[str, str] = {}
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
            texts["best/config.yaml"] = yaml_text(trial.config)
            self._samples(parent, trial)
        self._mark_front(book)
        status = SEARCH_STATUS[book.state]
        change = Change(parent, tags=tags, points=points, status=status, ended=time, texts=texts)
        self.writer.write([change])

    def _mark_front(self, book: Book) -> None:
        """With several objectives, tag each complete trial: whether the front has it."""
        if len(objectives(book)) > 1:
            best = {trial.number for trial in front(book)}
            marks = {t.number: in_yaml(t.number in best) for t in ranked(book)}
            self.writer.write(
                [
                    Change(self.runs[n], tags={"diffsweep.pareto": mark})
                    for n, mark in marks.items()
                ]
            )


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
        tags["diffsweep.why"] = trial.why[:5000]
    if trial.reports and (error := trial.reports[-1].get("quality_error")):
        tags["diffsweep.quality_error"] = error[:5000]
    return tags


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
