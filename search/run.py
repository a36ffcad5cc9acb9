"""run(spec): one search from its spec to its answer. Read this first."""

from __future__ import annotations

import os
import signal
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from rich.console import Console

from search.analysis import ranked
from search.budget import hours_used
from search.confirm import asked_for
from search.engine import Engine
from search.errors import BadInput
from search.export import export_best
from search.history import ENDED, FORMAT, Book, DriverLock, History, read_book
from search.home import Folder, Home
from search.local import concurrency, own_ray
from search.origin import compare, notify, origin
from search.progress import Progress
from search.publish import publish
from search.record import Recorder, check_reachable, tracking_uri
from search.report import write_report
from search.spec import Confirm, SearchSpec
from search.warm_start import import_trials
from trainable.datasets import Data, load_data
from trainable.shelf import use_code

KEPT = 3  # best complete trials whose checkpoints stay, beside the best of each optimizer
DRIVER_PATIENCE = 60.0  # seconds that a resume waits for a driver that is ending


def run(
    spec: SearchSpec, home: Home, console: Console, earlier: tuple[str, ...] = ()
) -> tuple[Folder, Book]:
    """Run a search here, attached, and leave its best trial exported.

    `earlier` are ids of searches to learn from.

    Raises:
        BadInput: the data, the model, the machine or the tracking server won't do; nothing began.
    """
    home.prepare()
    check_reachable(tracking_uri(spec, home))
    concurrent = concurrency(spec)
    data = prepare_data(spec)
    for note in data.notes:
        console.print(f"note: {note}")
    imported = import_trials(spec, [home.find(name) for name in earlier], console)
    folder = home.new(spec.name)
    return folder, drive(spec, folder, home, data, concurrent, console, imported)


def resume(
    home: Home,
    search: str,
    console: Console,
    more: dict[str, float] | None = None,
    retry: bool = False,
) -> tuple[Folder, Book]:
    """Go on with a search where its last driver left it, if given with more budget.

    With `retry`, trials that failed are tried again.

    Raises:
        BadInput: there is no such search, its driver still runs, or its data is gone.
    """
    folder = home.find(search)
    wait_for_driver(folder)
    book = read_book(folder.history)
    spec = SearchSpec.model_validate(book.spec)
    failed = [trial for trial in book.trials.values() if trial.state == "failed"]
    if book.state == "complete" and not more and not (retry and failed):
        console.print(f"{folder.id} is complete; `resume --trials N` adds to it")
        return folder, book
    if more:
        used = {"trials": 0, "wall_clock": book.seconds, "gpu_hours": hours_used(spec, book)}
        spec = spec.model_copy(update={"budget": spec.budget.plus(more, used)})
    data = prepare_data(spec)
    for warning in compare(book.origin, origin(spec, data)):
        console.print(f"[yellow]warning:[/] {warning}")
    again = [trial.number for trial in failed] if retry else []
    return folder, drive(spec, folder, home, data, concurrency(spec), console, again=again)


def confirm(
    home: Home, search: str, given: dict[str, Any], console: Console
) -> tuple[Folder, Book]:
    """Confirm the winners of a search on fresh seeds; what is left of the search runs before.

    `given` are settings of Confirm that differ from the search's own, or from the defaults.

    Raises:
        BadInput: no trial is complete, there is no such search, or its driver still runs.
    """
    folder = home.find(search)
    book = read_book(folder.history)
    if not ranked(book):
        raise BadInput(f"{folder.id}: nothing to confirm, no trial is complete")
    known = asked_for(book) or Confirm()
    wanted = Confirm.model_validate(known.model_dump() | given)
    spec = SearchSpec.model_validate(book.spec).model_copy(update={"confirm": wanted})
    data = prepare_data(spec)
    return folder, drive(spec, folder, home, data, concurrency(spec), console)


def drive(
    spec: SearchSpec,
    folder: Folder,
    home: Home,
    data: Data,
    concurrent: int,
    console: Console,
    imported: list[dict[str, object]] | None = None,
    again: list[int] | None = None,
) -> Book:
    """Run a search, or what is left of it, until its end or an interruption."""
    with DriverLock(folder.lock):
        history = History(folder.history)
        history.write(
            "start",
            search=folder.id,
            spec=spec.model_dump(mode="json"),
            origin=origin(spec, data),
            format=FORMAT,
        )
        if imported:
            history.write("import", trials=imported)
        for number in again or []:
            history.write("retry", trial=number)
        with Recorder(spec, folder, home), Progress(history.book, console) as progress:
            engine = Engine(spec, history)
            progress.note = "starting Ray"
            with own_ray(data.nbytes):
                tune_trials(spec, engine, folder, data, concurrent)
            engine.finish()
            if ranked(history.book):
                export_best(folder, history.book, folder.best)
            drop_checkpoints(engine, folder)
            write_study(engine, folder)
            progress.note = "writing the report"
            content = write_report(folder, history.book)
        history.close()
    if problem := publish(folder, home, history.book, content, data):
        console.print(f"MLflow did not take the report ({problem}). Send it again with:")
        console.print(f"  diffsweep report {folder.id}", soft_wrap=True)
    notify(spec, history.book, folder, console)
    if engine.error is not None:
        raise engine.error
    return history.book


def tune_trials(
    spec: SearchSpec, engine: Engine, folder: Folder, data: Data, concurrent: int
) -> None:
    """Let Ray Tune run the engine's trials until there are no more."""
    from ray import tune

    from search.tuning import EngineCallback, EngineScheduler, EngineSearcher
    from trainable.trial import DiffusionTrial

    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)  # trials asked for ahead of time
    trainable = tune.with_resources(
        tune.with_parameters(DiffusionTrial, data=data),
        {"cpu": spec.resources.cpu, "gpu": spec.resources.gpu},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=EngineSearcher(engine, folder, concurrent),
            scheduler=EngineScheduler(engine, lambda: drop_checkpoints(engine, folder)),
            trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
            trial_dirname_creator=lambda trial: f"tune-{trial.config['number']}-{trial.trial_id}",
            num_samples=-1,  # the searcher says when it is enough
            reuse_actors=True,  # a new process costs seconds of imports
        ),
        run_config=tune.RunConfig(
            name=folder.id,
            storage_path=str(folder.tune),
            callbacks=[EngineCallback(engine, folder)],
            failure_config=tune.FailureConfig(max_failures=spec.retries),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_at_end=False
            ),  # trials write theirs
            verbose=0,
        ),
    )
    # a polite request to end is like Ctrl-C, which Tune answers by ending in order
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with folder.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
        tuner.fit()  # what Tune says on its own is for the log


def drop_checkpoints(engine: Engine, folder: Folder) -> None:
    """Delete the checkpoints that nobody can want any more."""
    book = engine.book
    wanted = {trial.number for trial in ranked(book)[:KEPT]}
    for optimizer in engine.spec.optimizers:
        wanted |= {trial.number for trial in ranked(book, optimizer)[:1]}
    for trial in book.trials.values():
        if trial.state in ENDED and not trial.again and trial.number not in wanted:
            (folder.trial(trial.number) / "checkpoint.pt").unlink(missing_ok=True)


def write_study(engine: Engine, folder: Folder) -> None:
    """Leave the search as an Optuna study, a view for Optuna's own tools."""
    folder.study.unlink(missing_ok=True)
    for arm in engine.arms.all:
        peers = [t for t in engine.book.stage("search") if t.optimizer in arm.names]
        arm.sampler.study(peers, folder.study)


def prepare_data(spec: SearchSpec) -> Data:
    """Load the data and try the model on its shape, before anything starts.

    Raises:
        BadInput: the data can't be trained on, the model does not take it, or an optimizer can't
            be had on this machine.
    """
    from trainable.preflight import try_model, try_optimizer
    from trainable.quality import try_features

    try:
        use_code(spec.code)
        data = load_data(spec.trial.dataset)
        try_model(spec.trial, data)
        for name in spec.optimizers:
            try_optimizer(name, spec.trial.device)
        try_features(spec.trial, data)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return data


def wait_for_driver(folder: Folder) -> None:
    """Give a driver that is ending the time to end.

    Raises:
        BadInput: it still runs.
    """
    deadline = time.monotonic() + DRIVER_PATIENCE
    while DriverLock.held(folder.lock):
        ending = read_book(folder.history).ending or any(folder.requests.glob("*.json"))
        if not ending or time.monotonic() > deadline:
            raise BadInput(f"{folder.id}: its driver is still running")
        time.sleep(0.5)
