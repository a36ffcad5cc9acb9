"""A Ray of the search's own on this machine: on loopback, with a token, without a dashboard."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from search.errors import BadInput, SearchFailed
from search.history.lock import DriverLock
from search.spec.spec import Resources, SearchSpec
from trainable.base.cpus import count_cpus

# Ray reads these when it is first imported, so this module comes before any import of it.
# No usage statistics, no progress tables and notes of its own, GPUs hidden from trials that ask
# for none, no snapshots since the history is enough, trials stay in the folder of their driver,
# and Lightning in a user's code forks nothing (as Tune has it).
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "PL_DISABLE_FORK": "1",
}
LOOPBACK = "127.0.0.1"
# On Linux Ray replaces 127.0.0.1 by the machine's outside address, and with any other address of
# loopback its servers listen on all interfaces; told that this is a Mac, it does neither.
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
TOKEN = secrets.token_hex(32)  # of this process and its children; Ray reads it once

PREFIX, OWNED = "dsw-", "driver.lock"  # Ray's folders (short: sockets in them), and their locks
# a socket's path has 107 letters on Linux, of which Ray's session takes 62 and its folder 13
LONGEST_TMPDIR = 32
SHORT_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108
MIN_STORE = 100 << 20  # bytes of shared memory for what Ray keeps of its own


def concurrency(spec: SearchSpec) -> int:
    """How many trials run at once on this machine.

    Raises:
        BadInput: not even one fits, or there is no device of the kind that is asked for.
    """
    need, device = spec.resources, spec.trial.device
    cpus, gpus = count_cpus(), count_gpus() if need.gpu else 0  # torch takes seconds
    if device == "cuda" and not need.gpu:
        raise BadInput(
            "trial.device: cuda needs resources.gpu above 0, or trials see no GPU; 1 is usual"
        )
    several = need.workers > 1
    shares = f" ({need.workers} workers)" if several else ""
    or_workers = " or resources.workers" if several else ""
    if device in ("cuda", "mps"):
        from trainable.base.device import check_device  # with torch, which takes seconds

        try:
            check_device(device)
        except ValueError as error:
            raise BadInput(str(error)) from error
    for kind, each, there in (("cpu", need.cpu, cpus), ("gpu", need.gpu, gpus)):
        if each * need.workers > there:
            wanted = f"{each * need.workers:g} {kind.upper()}s"
            raise BadInput(
                f"resources.{kind}: a trial needs {wanted}{shares}, this machine has {there}; "
                f"lower resources.{kind}{or_workers}"
            )
    return limited(need, fits(need, cpus, gpus))


def fits(need: Resources, cpus: float, gpus: float) -> int:
    """How many workers a machine with so many CPUs and GPUs holds at once."""
    count = int(cpus / need.cpu)
    if need.gpu:
        whole = int(gpus)
        count = min(count, int(gpus / need.gpu) if need.gpu >= 1 else whole * int(1 / need.gpu))
    return count


def limited(need: Resources, places: int) -> int:
    """The number of trials at once where there is room for so many workers."""
    count = places // need.workers
    return count if need.concurrent == "auto" else min(need.concurrent, count)


def count_gpus() -> int:
    """GPUs of this machine that torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class Here:
    """This machine, with a Ray that lasts as long as the search."""

    job: str | None = None

    def concurrency(self, spec: SearchSpec) -> int:
        return concurrency(spec)

    def ray(self, shared_bytes: int) -> OwnRay:
        return OwnRay(shared_bytes)


class OwnRay:
    """Ray for this process alone, with room for `shared_bytes` of data.

    It takes seconds to start and to end, most of which it waits for processes of its own, so
    both happen in a thread, beside other work. It is one thread that stays: with the thread that
    started them, Linux would end Ray's processes.
    """

    def __init__(self, shared_bytes: int) -> None:
        self.shared_bytes = shared_bytes
        self.thread = ThreadPoolExecutor(1, "ray")
        self.ended: Future[None] | None = None

    def __enter__(self) -> OwnRay:
        # without a token given, Ray writes one to the user's home
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN} | ON_LOOPBACK
        os.environ.pop("RAY_ADDRESS", None)
        remove_orphans()
        draft = Path(tempfile.mkdtemp(prefix="ds-", dir=short_folder()))
        self.lock = DriverLock(draft / OWNED)
        self.lock.__enter__()
        # renamed once it is locked, so that nobody takes it for an orphan in between
        self.folder = draft.rename(draft.with_name(PREFIX + draft.name.removeprefix("ds-")))
        self.started = self.thread.submit(start, self.shared_bytes, self.folder)
        return self

    def wait(self) -> None:
        """Wait until it is up. Raises SearchFailed if it does not come up."""
        self.started.result()

    def end(self) -> None:
        """Let it end; leaving the context waits for that."""
        if self.ended is None:
            self.ended = self.thread.submit(stop, self.folder)

    def __exit__(self, *_: object) -> None:
        self.end()
        self.thread.shutdown()
        self.lock.__exit__()


def start(shared_bytes: int, folder: Path) -> None:
    """Start Ray on loopback, its files in `folder`.

    Raises:
        SearchFailed: it does not come up, as on a machine that is busy with other things.
    """
    import ray
    from ray.job_config import JobConfig

    class Apart(JobConfig):
        """Keeps the folder that we are in off the path of the workers.

        Ray would put it first, where a file of the user's, such as profile.py, would take the
        place of a module of Python's or ours. Modules of the user's are in `code:`.
        """

        def _runtime_env_has_working_dir(self) -> bool:
            return True

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address="local",
            num_cpus=count_cpus(),  # by which we count, too
            job_config=Apart(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=2 * shared_bytes + MIN_STORE,
            _node_ip_address=LOOPBACK,
            _temp_dir=str(folder),
        )
    except Exception as error:  # Ray names no class for it
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise SearchFailed(f"Ray can't be started on this machine: {why[0]}") from error


def stop(folder: Path) -> None:
    """End Ray, and remove its files."""
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def short_folder() -> Path:
    """The folder for temporary files, or another one where its path is too long for sockets.

    Raises:
        BadInput: none of them will do.
    """
    given = Path(tempfile.gettempdir())
    for folder in (given, *SHORT_FOLDERS):
        if len(str(folder)) <= LONGEST_TMPDIR and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise BadInput(
        f"TMPDIR: {given} is too long for the sockets of Ray, by "
        f"{len(str(given)) - LONGEST_TMPDIR} letters; set TMPDIR to a shorter folder"
    )


def remove_orphans() -> None:
    """Remove Ray's temporary folders of drivers that were killed: the system unlocked them."""
    for folder in short_folder().glob(PREFIX + "*"):
        lock = folder / OWNED
        try:
            mine = folder.lstat().st_uid == os.getuid() and lock.is_file()
            if mine and not DriverLock.held(lock):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it went away meanwhile
            continue
