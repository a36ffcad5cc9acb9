"""What is made sure of before a search begins, or goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from search.errors import BadInput
from search.history import read_book
from search.home import Folder, Home, refresh
from search.lease import is_driven, lease_age
from search.spec import SearchSpec
from search.storage import space_fault
from trainable.datasets import Data, load_data
from trainable.shelf import use_code

DRIVER_PATIENCE = 60.0  # seconds that a resume waits for a driver that is ending


def prepare_data(spec: SearchSpec) -> Data:
    """Load the data and try the model on its shape, before anything starts.

    Raises:
        BadInput: the data can't be trained on, the model does not take it, or an optimizer can't
            be had on this machine.
    """
    from trainable.solo import try_settings

    try:
        use_code(spec.code)
        data = load_data(spec.trial.dataset)
        settings = spec.trial.model_copy(update={"device": spec.device})
        try_settings(settings, spec.optimizers, data)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return data


def completed_spec(spec: SearchSpec, data: Data) -> SearchSpec:
    """The spec with what its model takes from the data, which an export is without."""
    from trainable.build import completed

    model = completed(spec.trial.model, data)
    return spec.model_copy(update={"trial": spec.trial.model_copy(update={"model": model})})


def machine_notes(spec: SearchSpec, home: Home, data: Data) -> Iterator[str]:
    """What should be known of GPUs that are left alone, and of the room for checkpoints."""
    from search.local import count_gpus
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
