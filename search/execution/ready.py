"""What is made sure of before a search begins, or goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from search.engine.sampler import Sampler
from search.errors import BadInput
from search.execution.joined import Place, Ray
from search.history.folder import Folder
from search.history.home import Home, refresh
from search.history.lease import is_driven, lease_age
from search.history.log import read_book
from search.history.storage import space_fault
from search.spec.space import baselines
from search.spec.spec import SearchSpec
from trainable.base.shelf import use_code
from trainable.config import TrialConfig
from trainable.data.loading import load_data
from trainable.data.parts import Data

DRIVER_PATIENCE = 60.0  # seconds that a resume waits for a driver that is ending


class Ready(NamedTuple):
    """What a search has before it begins."""

    concurrent: int  # trials at once
    data: Data
    ray: Ray  # may still be starting
    job: str | None  # the Ray job that drives the search, if one does


@contextmanager
def prepared(spec: SearchSpec, place: Place) -> Iterator[Ready]:
    """The data, loaded, and Ray, which starts while the model and the optimizers are tried.

    Raises:
        BadInput: no trial fits, the data can't be trained on, or the model does not take it.
    """
    concurrent = place.concurrency(spec)
    data = read_data(spec)
    with place.ray(data.nbytes) as ray:
        try_trial(spec, data)
        yield Ready(concurrent, data, ray, place.job)


def read_data(spec: SearchSpec) -> Data:
    """Load the data. Raises BadInput: it can't be trained on."""
    try:
        use_code(spec.code)
        return load_data(spec.trial.dataset)
    except ValueError as error:
        raise BadInput(str(error)) from error


def try_trial(spec: SearchSpec, data: Data) -> None:
    """Try the model on the data's shape, and the optimizers, before any trial does.

    Raises:
        BadInput: the model does not take the data, or an optimizer can't be had on this machine.
    """
    from trainable.solo import try_settings  # with torch, which takes seconds

    settings = spec.trial.model_copy(update={"device": spec.device})
    try:
        try_settings(settings, [first_config(spec, name) for name in spec.optimizers], data)
    except ValueError as error:
        raise BadInput(str(error)) from error


def first_config(spec: SearchSpec, name: str) -> TrialConfig:
    """The first trial of an optimizer: its published default, or else a draw from its space."""
    known = baselines(spec.space, spec.trial, spec.baselines)
    chosen = next((choice for choice in known if choice["optimizer"] == name), None)
    chosen = chosen or Sampler(spec.space, [name], "random").spread(0, name, 0, 1)
    assert chosen is not None  # nothing was tried yet
    return spec.resolve(chosen)


def completed_spec(spec: SearchSpec, data: Data) -> SearchSpec:
    """The spec with what its model takes from the data, which an export is without."""
    from trainable.models.build import completed

    model = completed(spec.trial.model, data)
    return spec.model_copy(update={"trial": spec.trial.model_copy(update={"model": model})})


def machine_notes(spec: SearchSpec, home: Home, data: Data) -> Iterator[str]:
    """What should be known of GPUs that are left alone, and of the room for checkpoints."""
    from search.execution.local import count_gpus
    from trainable.preflight import checkpoint_bytes

    if (gpus := count_gpus()) and not spec.resources.gpu:
        yield f"trials use none of this machine's {gpus} GPUs; for one each, resources.gpu: 1"
    place = home.path if spec.storage is None else Path(spec.storage)
    if "://" in str(spec.storage):  # S3 has enough
        return
    need = checkpoint_bytes(spec.trial, data) * spec.budget.trials
    if fault := space_fault(place, need):
        yield fault


def is_ending(folder: Folder) -> bool:
    """Whether the driver of a search has written its last word, or has a request to take up."""
    return read_book(folder.history).ending or any(folder.requests.glob("*.json"))


def wait_for_driver(folder: Folder) -> None:
    """Give a driver that is ending the time to end.

    Raises:
        BadInput: it still runs.
    """
    deadline, last = time.monotonic() + DRIVER_PATIENCE, None
    while is_driven(folder):
        refresh(folder)
        age = lease_age(folder)
        may_be_dead = age is not None and (last is None or age >= last)  # not renewed meanwhile
        if not (is_ending(folder) or may_be_dead) or time.monotonic() > deadline:
            raise BadInput(f"{folder.id}: its driver is still running")
        last = age
        time.sleep(0.5)
