"""What a search leaves on disk beside its history: checkpoints worth keeping, and its study."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from search.engine.analysis import front, objective, objectives, ranked
from search.engine.confirm import groups
from search.engine.engine import Engine
from search.history.book import ENDED, Trial
from search.history.folder import Folder
from search.takeaway.files import export_best
from trainable.actor.kept import CHECKPOINT
from trainable.base.storage import StorageError

BEST = 3  # best complete trials whose checkpoints stay, beside the front and each optimizer's
SHARE = 0.05  # of the trials there are: so many checkpoints more than needed may lie there

logger = logging.getLogger("diffsweep.leftovers")


def leave_behind(engine: Engine, folder: Folder) -> None:
    """Leave an ended search as people want to find it. Doing it again changes nothing."""
    if ranked(engine.book):
        export_best(folder, engine.book, folder.best)
        keep(folder, folder.best)
    drop(folder, list(unwanted(engine)))
    write_study(engine, folder)


def keep(folder: Folder, path: Path) -> None:
    """Bring a folder of results to storage too. Raises StorageError."""
    if folder.storage is not None:
        folder.storage.put_folder(path, path.name)


class Sweeper:
    """Drops checkpoints while the search goes on; those in storage without holding it up."""

    def __init__(self, engine: Engine, folder: Folder) -> None:
        self.engine, self.folder = engine, folder
        self._bounds: dict[str, float] = {}
        self._dropped: set[int] = set()
        self._calls = 0  # since the last time that it looked
        self._pool = ThreadPoolExecutor(1, "sweeper")

    def __call__(self) -> None:
        """To be called when a trial has ended.

        It looks at all of them, so with many it does so only once every SHARE of them.
        """
        self._calls += 1
        if self._calls < SHARE * len(self.engine.book.trials):
            return
        self._calls = 0
        self._bounds = bounds(self.engine)
        numbers = [n for n in unwanted(self.engine) if n not in self._dropped]
        self._dropped |= set(numbers)
        if self.folder.storage is None:
            self._sweep(numbers)
        else:
            self._pool.submit(self._sweep, numbers)

    def kept_if(self, trial: Trial) -> dict[str, Any] | None:
        """What the end of a trial has to be like for its last checkpoint to be wanted; None: it
        may always be. As of the last look, when less was asked of it than now."""
        metric, mode = objective(self.engine.book)
        if trial.stage == "confirm":  # it judges a config, of which the search has the weights
            bound = -math.inf if mode == "min" else math.inf
        elif trial.optimizer in self._bounds:
            bound = self._bounds[trial.optimizer]
        else:
            return None
        return {"metric": metric, "mode": mode, "bound": bound}

    def _sweep(self, numbers: list[int]) -> None:
        try:
            drop(self.folder, numbers)
        except StorageError as error:  # done at the end, or at the next resume
            logger.info("%s", error)


def drop(folder: Folder, numbers: list[int]) -> None:
    """Delete the checkpoints of trials. Raises StorageError."""
    for number in numbers:
        path = folder.trial(number) / CHECKPOINT
        for file in (path, *path.parent.glob(f".{CHECKPOINT}*")):  # and what a killed process left
            file.unlink(missing_ok=True)
    if folder.storage is not None and numbers:  # one look at all trials, of a thousand names each
        parts = {f"trials/{number}" for number in numbers}
        names = (n for n in folder.storage.names("trials/") if n.endswith(".pt"))
        folder.storage.delete_each([n for n in names if n.rpartition("/")[0] in parts])


def unwanted(engine: Engine) -> Iterator[int]:
    """The trials whose checkpoints nobody can want any more."""
    book = engine.book
    wanted = {trial.number for trial in (*ranked(book)[:BEST], *front(book))}
    wanted |= {trial.number for trials in leading(engine).values() for trial in trials}
    for trial in book.trials.values():
        if trial.state in ENDED and not trial.again and trial.number not in wanted:
            yield trial.number


def bounds(engine: Engine) -> dict[str, float]:
    """For each optimizer the value that its trials must reach to be among the wanted ones.

    Only with one objective, and once there are complete trials enough.
    """
    book, aims = engine.book, objectives(engine.book)
    best = ranked(book)
    if len(aims) > 1 or len(best) < BEST:
        return {}
    metric, mode = aims[0]
    lesser = max if mode == "min" else min
    each = engine.finalists * engine.spec.replicates
    own = {name: trials for name, trials in leading(engine).items() if len(trials) >= each}
    return {
        name: lesser(t.reports[-1][metric] for t in (best[BEST - 1], *trials))
        for name, trials in own.items()
    }


def leading(engine: Engine) -> dict[str, list[Trial]]:
    """The best of each optimizer, and those of which one is confirmed."""
    book, confirm = engine.book, engine.spec.confirm
    found = {name: ranked(book, name)[:1] for name in engine.spec.optimizers}
    if confirm is not None and confirm.per == "optimizer":
        for trial in (trial for group in groups(book, confirm) for trial in group):
            if trial not in found[trial.optimizer]:
                found[trial.optimizer].append(trial)
    return found


def write_study(engine: Engine, folder: Folder) -> None:
    """Leave the search as an Optuna study, a view for Optuna's own tools."""
    folder.study.unlink(missing_ok=True)
    for arm in engine.arms.all:
        arm.sampler.study(arm.peers, folder.study)
