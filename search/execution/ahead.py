"""What the end of a search takes seconds for, done while a slot of it is idle anyway."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

from search.engine.analysis import best
from search.history.book import AT_WORK, Book, Trial
from search.history.folder import Folder
from search.history.log import read_book
from search.takeaway.files import write_export

IMPORTS = (
    "search.answer.plots",
    "search.takeaway.logged_model",
    "mlflow.pyfunc",
    "mlflow.pytorch",
)
logger = logging.getLogger("diffsweep.ahead")


class Ahead:
    """Called when there is room for a trial and none to begin; works in a thread of its own.

    First it imports what the report and the best model take. When the last winners are confirmed
    and the best trial is known for good, it traces its network. What fails here is tried again,
    and told, when it is needed.
    """

    def __init__(self, folder: Folder, book: Book) -> None:
        self.folder, self.book = folder, book
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._imported = self._traced = False

    def __enter__(self) -> Ahead:
        return self

    def __call__(self) -> None:
        if not self._imported:
            self._imported = True
            self._thread.submit(self._do, lambda: [import_module(name) for name in IMPORTS])
        if not self._traced and (trial := known(self.book)) is not None:
            self._traced = True
            self._thread.submit(self._do, lambda: trace(self.folder, trial.number))

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:  # whatever it is, the search goes on
            logger.info("not done ahead of time", exc_info=True)


def known(book: Book) -> Trial | None:
    """The best trial, if no trial at work can be better: they only confirm."""
    if any(trial.state in AT_WORK for trial in book.stage("search")):
        return None
    return best(book)


def trace(folder: Folder, number: int) -> None:
    """Write the graph of a trial's network to where `log_model` looks for it."""
    from search.takeaway.logged_model import write_graph
    from trainable.exported import Exported

    book = read_book(folder.history)  # a copy, since the search's own changes meanwhile
    folder.graphs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.graphs) as temporary:
        export, graph = Path(temporary) / "export", Path(temporary) / "graph"
        write_export(folder, book, book.trials[number], export)
        write_graph(Exported(export, device="cpu"), graph)
        graph.rename(folder.graph(number))  # whole, or not there
