"""run(spec): one search from its spec to its answer. Read this first."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from search.answer.report import write_report
from search.engine.analysis import ranked
from search.engine.budget import hours_used
from search.engine.confirm import asked_for
from search.engine.engine import Engine
from search.engine.warm_start import import_trials
from search.errors import BadInput, Fenced, StorageAway
from search.execution.joined import Place
from search.execution.leftovers import keep, leave_behind
from search.execution.local import Here
from search.execution.notify import notify
from search.execution.origin import compare, origin
from search.execution.ready import Ready, completed_spec, machine_notes, prepared, wait_for_driver
from search.history.book import Book
from search.history.folder import Folder
from search.history.home import Home
from search.history.lease import driving
from search.history.log import FORMAT, History, read_book
from search.history.shipping import get_code, moved, put_code
from search.history.storage import check_storage
from search.spec.checks import notes
from search.spec.spec import Confirm, SearchSpec
from search.takeaway.publish import publish
from search.tracking.recorder import UNWATCHED, Recorder, deliver_rest
from search.tracking.server import check_experiment, check_reachable, tracking_uri
from search.watch.logs import tell
from search.watch.progress import Progress
from search.watch.shown import how_to_add
from trainable.base.durable import fault_of_the_disk, replace
from trainable.data.parts import Data

HERE = Here()


def run(
    spec: SearchSpec,
    home: Home,
    console: Console,
    earlier: tuple[str, ...] = (),
    place: Place = HERE,
    id: str | None = None,
) -> tuple[Folder, Book]:
    """Run a search, attached, and leave its best trial exported.

    `earlier` are ids of searches to learn from. `place` is where its trials run: on this machine,
    or on the cluster that this process is a job of, which then knows it by its `id` already.

    Raises:
        BadInput: the data, the model, the machine or the tracking server won't do; nothing began.
    """
    home.prepare()
    spec = spec.model_copy(update={"storage": spec.storage or home.storage})
    check_reachable(tracking_uri(spec, home))
    check_experiment(tracking_uri(spec, home), spec.experiment, home)
    if spec.storage is not None:
        check_storage(spec.storage)
    sources = [home.find(name) for name in earlier]
    with prepared(spec, place) as ready:
        data = ready.data
        spec = completed_spec(spec, data)
        for note in (*data.notes, *notes(spec), *machine_notes(spec, home, data)):
            console.print(f"note: {note}")
        imported = import_trials(spec, sources, console, data.fingerprint)
        folder = home.new(spec.name, spec.storage, id)
        return folder, drive(Session(spec, folder, home, ready, console, imported))


def resume(
    home: Home,
    search: str,
    console: Console,
    more: dict[str, float] | None = None,
    retry: bool = False,
    place: Place = HERE,
) -> tuple[Folder, Book]:
    """Go on with a search where its last driver left it, if given with more budget.

    With `retry`, trials that failed are tried again.

    Raises:
        BadInput: there is no such search, its driver still runs, or its data is gone.
    """
    home.prepare()
    folder = home.find(search)
    wait_for_driver(folder)
    book = read_book(folder.history)
    places = get_code(folder)
    spec = SearchSpec.model_validate(moved(book.spec, places))
    failed = [trial for trial in book.trials.values() if trial.state == "failed"]
    if book.state == "complete" and not more and not (retry and failed):
        catch_up(spec, folder, home)
        console.print(f"{folder.id} is complete; {how_to_add(folder.id, book.why)}")
        return folder, book
    if more:
        if (
            book.state == "complete"
            and book.why in ("wall_clock", "gpu_hours")
            and not more.get(book.why)
        ):
            raise BadInput(f"{folder.id}: {how_to_add(folder.id, book.why)}; its time is spent")
        hours = hours_used(spec.resources, book)
        used = {"trials": 0, "wall_clock": book.seconds, "gpu_hours": hours}
        spec = spec.model_copy(update={"budget": spec.budget.plus(more, used)})
    again = [trial.number for trial in failed] if retry else []
    with prepared(spec, place) as ready:
        for warning in compare(book.origin, origin(spec, ready.data)):
            console.print(f"[yellow]warning:[/] {warning}")
        session = Session(spec, folder, home, ready, console, again=again, places=places)
        return folder, drive(session)


def catch_up(spec: SearchSpec, folder: Folder, home: Home) -> None:
    """Do what a driver that was killed at its very end, or found MLflow away, left undone.

    Raises:
        BadInput: MLflow is still away.
    """
    with driving(folder) as history:
        leave_behind(Engine(spec, history), folder)
        deliver_rest(spec, folder, home)
    done = folder.answered.exists() and (folder.report / "report.json").exists()
    if not done and (problem := bring_answer(folder, home, history.book)):
        raise BadInput(f"{folder.id}: MLflow does not take the report: {problem}")


def confirm(
    home: Home, search: str, given: dict[str, Any], console: Console, place: Place = HERE
) -> tuple[Folder, Book]:
    """Confirm the winners of a search on fresh seeds.

    What is left of the search runs before, unless the user ended it: by `stop` or `cancel`.
    `given` are settings of Confirm that differ from the search's own, or from the defaults.

    Raises:
        BadInput: no trial is complete, there is no such search, or its driver still runs.
    """
    home.prepare()
    folder = home.find(search)
    book = read_book(folder.history)
    if not ranked(book):
        raise BadInput(f"{folder.id}: nothing to confirm, no trial is complete")
    known = asked_for(book) or Confirm()
    wanted = Confirm.model_validate(known.model_dump() | given)
    places = get_code(folder)
    spec = SearchSpec.model_validate(moved(book.spec, places))
    spec = spec.model_copy(update={"confirm": wanted})
    only = "confirm" if book.state in ("stopped", "cancelled") else None
    with prepared(spec, place) as ready:
        session = Session(spec, folder, home, ready, console, places=places, stopping=only)
        return folder, drive(session)


@dataclass
class Session:
    """A search from here until its end or an interruption: what one driver does of it."""

    spec: SearchSpec
    folder: Folder
    home: Home
    ready: Ready
    console: Console
    imported: list[dict[str, Any]] = field(default_factory=list)  # trials of earlier searches
    again: list[int] = field(default_factory=list)  # trials that failed, and are tried again
    places: dict[str, str] = field(default_factory=dict)  # of code that is not where it was
    stopping: str | None = None  # "confirm": only winners are trained


def drive(session: Session) -> Book:
    """Run a session.

    Raises:
        DiffsweepError: the search could not go on, or ended and its report could not be written.
    """
    folder, console = session.folder, session.console
    with driving(folder) as history:
        begin(session, history)
        engine, recorder = train(session, history)
    if recorder.undelivered:
        console.print(f"MLflow did not take all of it ({recorder.error}); nothing is lost.")
        console.print(f"  diffsweep resume {folder.id}  delivers the rest", soft_wrap=True)
    try:
        answer(session, history.book)
    finally:
        notify(session.spec, history.book, folder, console)
    if engine.error is not None:
        raise engine.error
    return history.book


def begin(session: Session, history: History) -> None:
    """Write down that this driver begins, with all that the session goes by."""
    spec, ready = session.spec, session.ready
    if ready.job:  # nobody watches; its log is all there is to see
        history.tell = lambda event: tell(session.console, event, history.book)
    session.folder.answered.unlink(missing_ok=True)
    put_code(session.folder, spec.code)
    driver = {"driver": f"{platform.node()}:{os.getpid()}", "job": ready.job}
    about = {"spec": spec.model_dump(mode="json"), "origin": origin(spec, ready.data)}
    history.gather()
    history.write("start", search=session.folder.id, format=FORMAT, **about, **driver)
    if session.imported:
        history.write("import", trials=session.imported)
    for number in session.again:
        history.write("retry", trial=number)
    history.settle()


def train(session: Session, history: History) -> tuple[Engine, Recorder]:
    """Have Ray run the trials that the engine chooses, recorded in MLflow, until none is left."""
    spec, folder, ready, console = session.spec, session.folder, session.ready, session.console
    patience = UNWATCHED if ready.job else None
    recorder = Recorder(spec, folder, session.home, history.mirror, patience)
    with recorder, Progress(history, console) as progress:
        engine = Engine(spec, history, session.stopping)
        progress.note = "starting Ray"
        from search.execution.tuning import tune_trials  # imports Ray, which the place prepares

        ready.ray.wait()
        tune_trials(spec, engine, folder, ready.data, ready.concurrent, session.places)
        ready.ray.end()
        if isinstance(engine.error, Fenced):
            raise engine.error
        try:
            engine.finish()
        except OSError as error:  # not even that can be written; `status` sees what is there
            fault = fault_of_the_disk(error)
            raise engine.error or StorageAway(f"infrastructure: {fault or error}") from error
        if isinstance(engine.error, StorageAway):
            raise engine.error
        leave_behind(engine, folder)
        if patience and recorder.error:
            console.print(f"waiting for MLflow ({recorder.error})", soft_wrap=True)
    return engine, recorder


def answer(session: Session, book: Book) -> None:
    """Write the report, and bring it and the best model to MLflow."""
    folder, console = session.folder, session.console
    if problem := bring_answer(folder, session.home, book, session.ready.data):
        console.print(f"MLflow did not take the report ({problem}). Send it again with:")
        console.print(f"  diffsweep report {folder.id}", soft_wrap=True)


def bring_answer(folder: Folder, home: Home, book: Book, data: Data | None = None) -> str | None:
    """Write the report, and bring it to where it belongs; why MLflow did not take it, if so.

    It is noted when all of it is done, since a driver may be killed at any point of it.
    """
    content = write_report(folder, book)
    keep(folder, folder.report)
    problem = publish(folder, home, book, content, data)
    if problem is None:
        replace(folder.answered, b"")
    return problem
