"""run(spec): one search from its spec to its answer. Read this first."""

from __future__ import annotations

import os
from contextlib import redirect_stderr, redirect_stdout

from rich.console import Console

from search.analysis import ranked
from search.engine import Engine
from search.errors import BadInput
from search.export import export_best
from search.history import FORMAT, Book, DriverLock, History, Trial, read_book
from search.home import Folder, Home
from search.local import concurrency, own_ray
from search.progress import Progress
from search.record import Recorder, check_reachable, tracking_uri
from search.spec import SearchSpec
from trainable.datasets import Data, load_data
from trainable.shelf import use_code

KEPT = 3  # best complete trials whose checkpoints stay, beside the best of each optimizer


def run(spec: SearchSpec, home: Home, console: Console) -> tuple[Folder, Book]:
    """Run a search here, attached, and leave its best trial exported.

    Raises:
        BadInput: the data, the model, the machine or the tracking server won't do; nothing began.
    """
    home.prepare()
    check_reachable(tracking_uri(spec, home))
    concurrent = concurrency(spec)
    data = prepare_data(spec)
    for note in data.notes:
        console.print(f"note: {note}")
    folder = home.new(spec.name)
    return folder, drive(spec, folder, home, data, concurrent, console)


def resume(home: Home, search: str, console: Console) -> tuple[Folder, Book]:
    """Go on with a search where its last driver left it.

    Raises:
        BadInput: there is no such search, its driver still runs, or its data is gone.
    """
    folder = home.find(search)
    book = read_book(folder.history)
    if book.state == "complete":
        return folder, book
    spec = SearchSpec.model_validate(book.spec)
    data = prepare_data(spec)
    return folder, drive(spec, folder, home, data, concurrency(spec), console)


def drive(
    spec: SearchSpec, folder: Folder, home: Home, data: Data, concurrent: int, console: Console
) -> Book:
    """Run a search, or what is left of it, until its end or an interruption."""
    with DriverLock(folder.lock):
        history = History(folder.history)
        history.write("start", search=folder.id, spec=spec.model_dump(mode="json"), format=FORMAT)
        with Recorder(spec, folder, home), Progress(history.book, console) as progress:
            engine = Engine(spec, history, folder.study)
            progress.note = "starting Ray"
            with own_ray(data.nbytes):
                tune_trials(spec, engine, folder, data, concurrent)
            finish(engine, folder)
            if engine.error is not None:
                raise engine.error
            if any(trial.state == "complete" for trial in history.book.trials.values()):
                export_best(folder, history.book, folder.best)
        history.close()
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
            scheduler=EngineScheduler(
                engine, lambda trial: drop_checkpoints(engine, folder, trial)
            ),
            trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
            trial_dirname_creator=lambda trial: f"tune-{trial.config['number']}-{trial.trial_id}",
            num_samples=-1,  # the searcher says when it is enough
            reuse_actors=True,  # a new process costs seconds of imports
        ),
        run_config=tune.RunConfig(
            name=folder.id,
            storage_path=str(folder.tune),
            callbacks=[EngineCallback(engine)],
            failure_config=tune.FailureConfig(max_failures=spec.retries),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_at_end=False
            ),  # trials write theirs
            verbose=0,
        ),
    )
    with folder.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
        tuner.fit()  # what Tune says on its own is for the log


def finish(engine: Engine, folder: Folder) -> None:
    """Write how the search ended; trials that were cut off are paused, and go on at resume."""
    cut = [t.number for t in engine.book.trials.values() if t.state in ("pending", "running")]
    for number in cut:
        engine.end(number, "paused", "the search was interrupted")
    state = "failed" if engine.error else "interrupted" if cut else "complete"
    engine.history.write("finish", state=state, why=engine.stopping)


def drop_checkpoints(engine: Engine, folder: Folder, ended: Trial) -> None:
    """Delete the checkpoints that nobody can want any more."""
    book = engine.book
    wanted = {trial.number for trial in ranked(book)[:KEPT]}
    for optimizer in engine.spec.optimizers:
        wanted |= {trial.number for trial in ranked(book, optimizer)[:1]}
    for trial in (ended, *ranked(book)):
        if trial.number not in wanted and trial.state != "paused":
            (folder.trial(trial.number) / "checkpoint.pt").unlink(missing_ok=True)


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
        try_features(spec.trial, data)
        for name in spec.optimizers:
            try_optimizer(name, spec.trial.device)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return data
