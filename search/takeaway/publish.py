"""What the end of a search adds to its parent run: report, numbers, dataset, best model."""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.engine.analysis import best
from search.errors import DiffsweepError
from search.history.book import Book, Trial
from search.history.folder import Folder
from search.history.home import Home
from search.spec.spec import SearchSpec
from search.takeaway.files import write_export
from search.tracking.server import check_reachable, client_of, tracking_uri
from trainable.base.shelf import use_code
from trainable.data.loading import load_data
from trainable.data.parts import Data, FiledPart

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
MODEL_TAG = "diffsweep.model"  # of the parent run: the id of the model logged last
SHOWN = 10_000  # examples by which data larger than memory is described
TRIAL_TAG = "diffsweep.model_trial"  # and the trial that it is
logger = logging.getLogger("diffsweep.publish")


def publish(
    folder: Folder, home: Home, book: Book, content: dict[str, Any], data: Data | None = None
) -> str | None:
    """Bring the parent run up to date; None, or why MLflow did not take it.

    What is there already is replaced or left, so it can be done again at any time.
    """
    spec = SearchSpec.model_validate(book.spec)
    try:
        check_reachable(tracking_uri(spec, home))
        client, parent = connect(spec, folder, home)
        for path in sorted(folder.report.iterdir()):
            where = "plots" if path.suffix == ".png" else None
            client.log_artifact(parent.info.run_id, str(path), where)
        log_summary(client, parent, book, content)
        log_dataset(client, parent, spec, data)
        if (trial := best(book)) is not None:
            log_model(client, parent, folder, book, trial)
        shutil.rmtree(folder.graphs, ignore_errors=True)
    except Exception as error:  # whatever it is, the search is done and its report is on disk
        logger.warning("MLflow: %s", error, exc_info=not isinstance(error, DiffsweepError))
        return str(error).splitlines()[0]
    return None


def connect(spec: SearchSpec, folder: Folder, home: Home) -> tuple[MlflowClient, Run]:
    """A client of the search's store, and the search's parent run.

    Raises:
        DiffsweepError: there is no such run; the search was recorded elsewhere, or not yet.
    """
    uri = tracking_uri(spec, home)
    client = client_of(uri)
    experiment = client.get_experiment_by_name(spec.experiment)
    query = f"tags.`diffsweep.search` = '{folder.id}' and attributes.run_name = '{folder.id}'"
    runs = client.search_runs([experiment.experiment_id], query) if experiment else []
    if not runs:
        raise DiffsweepError(f"no parent run of {folder.id} in {uri}")
    return client, runs[0]


def log_summary(client: MlflowClient, parent: Run, book: Book, content: dict[str, Any]) -> None:
    """The numbers of the answer as metrics of the parent run, and the answer as a tag."""
    from mlflow.entities import Metric, RunTag

    now = book.last_event or 0  # the same each time, so that a metric is stored once
    numbers = {
        "full_trainings": content["budget"]["search"]["full_trainings"],
        "confirm_full_trainings": content["budget"]["confirm"]["full_trainings"],
    }
    for name, row in content["optimizers"].items():
        key = name.replace(":", ".")
        if row["best"]:
            numbers[f"best/{key}"] = row["best"]["val_loss"]
        if row["confirmed"]:
            numbers[f"confirmed/{key}"] = row["confirmed"]["mean"]
    for verdict in content["verdicts"]:
        numbers[f"difference/{verdict['a']}-{verdict['b']}".replace(":", ".")] = verdict[
            "difference"
        ]
    tags = [RunTag("diffsweep.answer", content["answer"][:5000])]
    metrics = [Metric(key, value, now, 0) for key, value in numbers.items()]
    client.log_batch(parent.info.run_id, metrics=metrics, tags=tags)


def log_dataset(client: MlflowClient, parent: Run, spec: SearchSpec, data: Data | None) -> None:
    """An entry for the dataset: name, digest, schema and size of each part."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.numpy_dataset import from_numpy
    from mlflow.entities import DatasetInput, InputTag

    if parent.inputs and parent.inputs.dataset_inputs:
        return
    config = spec.trial.dataset
    if data is None:
        use_code(spec.code)
        data = load_data(config)
    source = CodeDatasetSource({key: str(value) for key, value in config.model_dump().items()})
    inputs = []
    for context, part in zip(("training", "validation", "test"), data.parts, strict=True):
        x, given = part.some(SHOWN) if isinstance(part, FiledPart) else part
        labels = {} if given is None else {"targets": given}
        entry = from_numpy(x, source=source, name=f"{config.type}/{context}", **labels)  # type: ignore[arg-type]
        tags = [InputTag("mlflow.data.context", context)]
        inputs.append(DatasetInput(dataset=entry._to_mlflow_entity(), tags=tags))
    client.log_inputs(parent.info.run_id, datasets=inputs)


def log_model(client: MlflowClient, parent: Run, folder: Folder, book: Book, trial: Trial) -> str:
    """The best trial as a model that MLflow loads and samples from; its id. Once per trial.

    One that a driver which was killed has only begun is finished.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    from search.takeaway.logged_model import save_model

    tags = parent.data.tags
    if tags.get(TRIAL_TAG) == str(trial.number) and MODEL_TAG in tags:
        return str(tags[MODEL_TAG])
    about = {"diffsweep.search": folder.id, "diffsweep.trial": str(trial.number)}
    experiment, run = parent.info.experiment_id, parent.info.run_id
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in about.items())
    known = client.search_logged_models([experiment], query)
    model = next((one for one in known if one.status == LoggedModelStatus.PENDING), None)
    if model is None:
        model = client.create_logged_model(experiment, name="best", source_run_id=run, tags=about)
    with (
        tempfile.TemporaryDirectory() as temporary,
        folder.log.open("a") as log,
        redirect_stderr(log),  # progress bars, and warnings of what MLflow imports
    ):
        export, saved = Path(temporary) / "export", Path(temporary) / "model"
        write_export(folder, book, trial, export)
        empty = Model(model.artifact_location, run_id=run, model_id=model.model_id)
        code, graph = trial.config["code"], folder.graph(trial.number)
        missing = save_model(export, saved, empty, code, graph)
        client.log_model_artifacts(model.model_id, str(saved))
    if missing:
        client.set_logged_model_tags(model.model_id, {"diffsweep.no_pytorch_flavour": missing})
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    for key, value in ((MODEL_TAG, model.model_id), (TRIAL_TAG, str(trial.number))):
        client.set_tag(run, key, value)
    return str(model.model_id)
