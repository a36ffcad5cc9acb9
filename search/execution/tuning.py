"""The trials of a search, run by Ray Tune until there are no more."""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import ray
from ray import tune
from ray.tune import registry
from ray.tune.execution import class_cache, tune_controller

from search.engine.engine import Engine
from search.errors import SearchFailed
from search.execution.adapters import EngineCallback, EngineScheduler, EngineSearcher
from search.execution.ahead import Ahead
from search.execution.dashboard import TRIALS_OF
from search.execution.leftovers import Sweeper
from search.execution.lost import Actors
from search.execution.registered import Registered
from search.execution.words import Stamped, rays_words
from search.history.folder import Folder
from search.spec.spec import SearchSpec
from trainable.actor.trial import DiffusionTrial
from trainable.actor.workers import GangTrial
from trainable.data.parts import Data

SECRETS = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}


def trainable(spec: SearchSpec, data: Data) -> Any:
    """What Tune runs for each trial, with the resources that it needs."""
    need = spec.resources
    if need.workers == 1:
        alone = tune.with_parameters(DiffusionTrial, data=data)
        return tune.with_resources(alone, {"cpu": need.cpu, "gpu": need.gpu})
    gang = tune.with_parameters(
        GangTrial,
        data=[ray.put(data)],  # a reference in a list stays one, for all workers of a node
        size=need.workers,
        need={"num_cpus": need.cpu, "num_gpus": need.gpu},
    )
    # all at once or not at all; Tune's own process of the trial has the empty bundle
    bundles = [{}, *[{"CPU": need.cpu, "GPU": need.gpu}] * need.workers]
    return tune.with_resources(gang, tune.PlacementGroupFactory(bundles))


def tune_trials(
    spec: SearchSpec,
    engine: Engine,
    folder: Folder,
    data: Data,
    concurrent: int,
    places: dict[str, str],
) -> None:
    """Let Ray Tune run the engine's trials until there are no more."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)  # trials asked for ahead of time
    runs, ahead = trainable(spec, data), Ahead(folder, engine.book)
    # searches on one cluster must not run each other's code; and so its processes can be told
    runs.__name__ = runs.__qualname__ = TRIALS_OF + (engine.book.job or folder.id)
    tune_controller.RayActorManager = Actors  # type: ignore[attr-defined]
    registry._global_registry = Registered()
    if engine.book.job is None:
        # Ray's processes have our environment, and a trial without another takes one that waits
        class_cache.ENV_VARS_TO_PROPAGATE.clear()
        class_cache.DEFAULT_ENV_VARS.clear()
    else:
        # Tune would copy these into what everybody with access to the cluster can read
        class_cache.ENV_VARS_TO_PROPAGATE -= SECRETS
    sweeper = Sweeper(engine, folder)
    searcher = EngineSearcher(engine, folder, concurrent, places, ahead, sweeper.kept_if)
    tuner = tune.Tuner(
        runs,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=EngineScheduler(engine, sweeper),
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
    with folder.log.open("a") as file:
        log = Stamped(file)
        with redirect_stdout(log), redirect_stderr(log), rays_words(log), ahead:
            try:
                tuner.fit()  # what Tune says on its own is for the log
            except Exception as error:  # whatever it is, the trials go on from where they are
                traceback.print_exc()
                engine.error = engine.error or SearchFailed(
                    f"Ray ended {folder.id}: {str(error).splitlines()[0]} (more in {folder.log})"
                )
