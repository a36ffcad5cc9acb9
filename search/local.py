"""A Ray of the search's own on this machine: on loopback, with a token, without a dashboard."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from search.errors import BadInput
from search.spec import SearchSpec

# Ray reads these when it is first imported, so this module comes before any import of it.
# No usage statistics, no progress tables and notes of its own, GPUs hidden from trials that ask
# for none, no snapshots since the history is enough. The token is this process's and its
# children's; without one, Ray would write a token to the user's home.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
}
# not 127.0.0.1, which Ray replaces by the machine's outside address
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"

MIN_STORE = 100 << 20  # bytes of shared memory for what Ray keeps of its own


def concurrency(spec: SearchSpec) -> int:
    """How many trials run at once on this machine.

    Raises:
        BadInput: not even one fits, or there is no device of the kind that is asked for.
    """
    cpus, gpus = os.cpu_count() or 1, count_gpus()
    need, device = spec.resources, spec.trial.device
    if device == "cuda" and not need.gpu:
        raise BadInput(
            "trial.device: cuda needs resources.gpu above 0, or trials see no GPU; 1 is usual"
        )
    several = need.workers > 1
    shares = f" ({need.workers} workers)" if several else ""
    or_workers = " or resources.workers" if several else ""
    if several and device == "auto" and not gpus and has_mps():
        raise BadInput("resources.workers: several workers can't use mps; want trial.device: cpu")
    if (device == "cuda" and not gpus) or (device == "mps" and not has_mps()):
        raise BadInput(
            f"trial.device: torch finds no {device} device on this machine; want auto or cpu"
        )
    for kind, each, there in (("cpu", need.cpu, cpus), ("gpu", need.gpu, gpus)):
        if each * need.workers > there:
            wanted = f"{each * need.workers:g} {kind.upper()}s"
            raise BadInput(
                f"resources.{kind}: a trial needs {wanted}{shares}, this machine has {there}; "
                f"lower resources.{kind}{or_workers}"
            )
    fits = int(cpus / (need.cpu * need.workers))
    if need.gpu >= 1:
        fits = min(fits, int(gpus / (need.gpu * need.workers)))
    elif need.gpu:
        fits = min(fits, gpus * int(1 / need.gpu))
    return fits if need.concurrent == "auto" else min(need.concurrent, fits)


def count_gpus() -> int:
    """GPUs of this machine that torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def has_mps() -> bool:
    """Whether torch can use an Apple GPU here."""
    import torch

    return torch.backends.mps.is_available()


@contextmanager
def own_ray(shared_bytes: int) -> Iterator[None]:
    """Start Ray for this process alone, with room for `shared_bytes` of data, and end it."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    logging.getLogger("ray").setLevel(logging.ERROR)
    folder = tempfile.mkdtemp(prefix="dsw-")  # short: sockets in it have a limited path
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=2 * shared_bytes + MIN_STORE,
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
