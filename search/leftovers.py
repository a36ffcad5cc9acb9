"""What a search leaves on disk beside its history: checkpoints worth keeping, and its study."""

from __future__ import annotations

from search.analysis import front, ranked
from search.engine import Engine
from search.export import export_best
from search.history import ENDED
from search.home import Folder
from trainable.checkpoint import NAME as CHECKPOINT

KEPT = 3  # best complete trials whose checkpoints stay, beside the front and each optimizer's


def leave_behind(engine: Engine, folder: Folder) -> None:
    """Leave an ended search as people want to find it. Doing it again changes nothing."""
    if ranked(engine.book):
        export_best(folder, engine.book, folder.best)
    drop_checkpoints(engine, folder)
    write_study(engine, folder)


def drop_checkpoints(engine: Engine, folder: Folder) -> None:
    """Delete the checkpoints that nobody can want any more."""
    book = engine.book
    wanted = {trial.number for trial in (*ranked(book)[:KEPT], *front(book))}
    for optimizer in engine.spec.optimizers:
        wanted |= {trial.number for trial in ranked(book, optimizer)[:1]}
    for trial in book.trials.values():
        if trial.state in ENDED and not trial.again and trial.number not in wanted:
            (folder.trial(trial.number) / CHECKPOINT).unlink(missing_ok=True)


def write_study(engine: Engine, folder: Folder) -> None:
    """Leave the search as an Optuna study, a view for Optuna's own tools."""
    folder.study.unlink(missing_ok=True)
    for arm in engine.arms.all:
        peers = [t for t in engine.book.stage("search") if t.optimizer in arm.names]
        arm.sampler.study(peers, folder.study)
