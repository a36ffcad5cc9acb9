"""run(spec): one search from its spec to its answer. Read this first."""

from __future__ import annotations

import os
import platform
from typing import Any

from rich.console import Console

from search.analysis import ranked
from search.budget import hours_used
from search.checks import notes
from search.confirm import asked_for
from search.engine import Engine
from search.errors import BadInput, Fenced, StorageAway
from search.history import FORMAT, Book, read_book
from search.home import Folder, Home
from search.joined import Place
from search.lease import driving
from search.leftovers import keep, leave_behind
from search.local import Here
from search.logs import tell
from search.origin import compare, notify, origin
from search.progress import Progress
from search.publish import publish
from search.ready import Ready, completed_spec, machine_notes, prepared, wait_for_driver
from search.record import UNWATCHED, Recorder, deliver_rest
from search.report import write_report
from search.shipping import get_code, moved, put_code
from search.spec import Confirm, SearchSpec
from search.status import how_to_add
from search.storage import check_storage
from search.tracking import check_reachable, tracking_uri
from search.warm_start import import_trials

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
        return folder, drive(spec, folder, home, ready, console, imported)


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
        return folder, drive(spec, folder, home, ready, console, again=again, places=places)


def catch_up(spec: SearchSpec, folder: Folder, home: Home) -> None:
    """Do what a driver that was killed at its very end, or found MLflow away, left undone.

    Raises:
        BadInput: MLflow is still away.
    """
    with driving(folder) as history:
        leave_behind(Engine(spec, history), folder)
        deliver_rest(spec, folder, home)
    if not (folder.report / "report.json").exists():
        publish(folder, home, history.book, write_report(folder, history.book))
        keep(folder, folder.report)


def confirm(
    home: Home, search: str, given: dict[str, Any], console: Console, place: Place = HERE
) -> tuple[Folder, Book]:
    """Confirm the winners of a search on fresh seeds.

    What is left of the search runs before, unless the user ended it: by `stop` or `cancel`.
    `given` are settings of Confirm that differ from the search's own, or from the defaults.

    Raises:
        BadInput: no trial is complete, there is no such search, or its driver still runs.
    """
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
        return folder, drive(spec, folder, home, ready, console, places=places, stopping=only)


def drive(
    spec: SearchSpec,
    folder: Folder,
    home: Home,
    ready: Ready,
    console: Console,
    imported: list[dict[str, Any]] | None = None,
    again: list[int] | None = None,
    places: dict[str, str] | None = None,
    stopping: str | None = None,
) -> Book:
    """Run a search, or what is left of it, until its end or an interruption.

    `places` is where the user's code lies that is not where the history says.

    Raises:
        DiffsweepError: the search could not go on, or ended and its report could not be written.
    """
    with driving(folder) as history:
        if ready.job:  # nobody watches; its log is all there is to see
            history.tell = lambda event: tell(console, event, history.book)
        put_code(folder, spec.code)
        driver = {"driver": f"{platform.node()}:{os.getpid()}", "job": ready.job}
        about = {"spec": spec.model_dump(mode="json"), "origin": origin(spec, ready.data)}
        history.write("start", search=folder.id, format=FORMAT, **about, **driver)
        if imported:
            history.write("import", trials=imported)
        for number in again or []:
            history.write("retry", trial=number)
        patience = UNWATCHED if ready.job else None
        recorder = Recorder(spec, folder, home, history.mirror, patience)
        with recorder, Progress(history.book, console, history.waiting) as progress:
            engine = Engine(spec, history, stopping)
            progress.note = "starting Ray"
            from search.tuning import tune_trials  # imports Ray, which the place prepares

            ready.ray.wait()
            tune_trials(spec, engine, folder, ready.data, ready.concurrent, places or {})
            ready.ray.end()
            if isinstance(engine.error, Fenced):
                raise engine.error
            engine.finish()
            if isinstance(engine.error, StorageAway):
                raise engine.error
            leave_behind(engine, folder)
            if patience and recorder.error:
                console.print(f"waiting for MLflow ({recorder.error})", soft_wrap=True)
    if recorder.undelivered:
        console.print(f"MLflow did not take all of it ({recorder.error}); nothing is lost.")
        console.print(f"  diffsweep resume {folder.id}  delivers the rest", soft_wrap=True)
    try:
        content = write_report(folder, history.book)
        keep(folder, folder.report)
        if problem := publish(folder, home, history.book, content, ready.data):
            console.print(f"MLflow did not take the report ({problem}). Send it again with:")
            console.print(f"  diffsweep report {folder.id}", soft_wrap=True)
    finally:
        notify(spec, history.book, folder, console)
    if engine.error is not None:
        raise engine.error
    return history.book
