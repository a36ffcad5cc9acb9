"""What is made sure of before a search begins, or goes on."""

from __future__ import annotations

import time

from search.errors import BadInput
from search.history import DriverLock, read_book
from search.home import Folder
from search.spec import SearchSpec
from trainable.datasets import Data, load_data
from trainable.shelf import use_code

DRIVER_PATIENCE = 60.0  # seconds that a resume waits for a driver that is ending


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
