"""What has to be true of a search that has ended, whatever was struck on the way."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from mlflow import MlflowClient
from PIL import Image
from support.killing import check_mlflow, check_study
from support.stored import history_in

from search.engine.budget import asked
from search.engine.confirm import owed
from search.engine.engine import Engine
from search.history.book import Book, Event
from search.history.folder import Folder
from search.history.lock import DriverLock
from search.history.log import History, events, read_book
from search.spec.spec import SearchSpec
from trainable.actor.kept import saved
from trainable.exported import Exported


def check_all(home: Path, folder: Folder, uri: str | None, ledger: Path) -> None:
    check_trials(folder)
    check_decisions(folder.history)
    check_ledger(read_book(folder.history), ledger)
    check_mlflow(home, folder, uri, "chaos")
    check_parent(folder, MlflowClient(uri or f"sqlite:///{home}/mlflow.db"))
    check_study(folder)
    check_files(folder)
    check_storage(folder)
    check_take(folder)


def check_trials(folder: Folder) -> None:
    """All trials were asked for once, and have ended for a reason of their own."""
    book = read_book(folder.history)
    assert book.state == "complete", book.state
    spec = SearchSpec.model_validate(book.spec)
    wanted = spec.budget.trials
    if spec.allocation == "equal":
        wanted -= wanted % len(spec.optimizers)
    assert [trial.number for trial in book.searched] == list(range(wanted))
    if spec.confirm is not None:
        assert book.confirming and not owed(book, spec.confirm)
    numbers = Counter(e["trial"] for e in events(folder.history) if e["event"] == "ask")
    assert set(numbers.values()) == {1} and sorted(numbers) == sorted(book.trials)
    for trial in book.trials.values():
        assert trial.state in ("complete", "pruned", "diverged") and not trial.again, trial
        clock = [report["samples"] for report in trial.reports]
        assert clock == sorted(set(clock)), f"trial {trial.number} reported {clock}"
        if trial.state == "complete":
            assert trial.samples == trial.full_samples, trial
            assert folder.grid(trial.number).exists(), f"no samples of trial {trial.number}"


def check_decisions(path: Path) -> None:
    """Each decision is the one that the events before it give, by the plain rules."""
    engine: Engine | None = None
    history = History(None)
    for event in events(path):
        if engine is not None:
            for fault in faults(engine, event):
                raise AssertionError(f"{fault}: {json.dumps(event)[:500]}")
        history.book.apply(event)
        if engine is None:
            engine = Engine(SearchSpec.model_validate(event["spec"]), history)


def faults(engine: Engine, event: Event) -> Iterator[str]:
    """What is wrong with a decision, where the engine's book has all events before it."""
    book, kind = engine.book, event["event"]
    if kind == "ask":
        yield from faults_of_ask(engine, event)
        return
    if kind not in ("report", "promote", "end"):
        return
    trial = book.trials[event["trial"]]
    if trial.stage != "search":
        return
    arm = engine.arms.of(trial)
    held = not trial.full and trial.samples != trial.promoted and trial.reports
    verdict = arm.scheduler.judge(trial, arm.peers) if held else "go"
    if kind == "report" and verdict in ("promote", "pause"):
        yield f"it went on from {trial.samples} samples without a word"
    if kind == "promote" and event["full"]:
        if engine.held.first(trial.group, 1) != [trial]:
            yield "another one was to be finished"
    elif kind == "promote" and trial.state == "paused":
        if arm.scheduler.promotable(arm.peers) is not trial:
            yield "it had not earned to go on"
    elif kind == "promote" and verdict != "promote":
        yield f"the rung says {verdict}"
    if kind == "end" and event["state"] == "paused" and not event["again"] and verdict != "pause":
        yield f"the rung says {verdict}"
    if kind == "end" and event["state"] == "pruned":
        yield from faults_of_pruning(engine, event, verdict)


def faults_of_ask(engine: Engine, event: Event) -> Iterator[str]:
    book, number = engine.book, event["trial"]
    if event["stage"] == "confirm":
        assert engine.spec.confirm is not None
        pairs = [(t.number, seed) for t, seed in owed(book, engine.spec.confirm)]
        if (event["source"], event["config"]["seed"]) not in pairs:
            yield f"owed are {pairs}"
        return
    first = event["baseline"]
    wanted = engine.baselines[asked(book)] if first else engine.arms.propose(number)
    if wanted != (event["chosen"], event.get("replicate", 0)):
        yield f"what came before it proposes {wanted}"


def faults_of_pruning(engine: Engine, event: Event, verdict: str) -> Iterator[str]:
    trial, book = engine.book.trials[event["trial"]], engine.book
    if trial.state != "paused":
        if verdict != "stop":
            yield f"the rung says {verdict}"
        return
    to_come = max(0, engine.spec.budget.trials - asked(book))
    arm = engine.arms.of(trial)
    if book.at_work and trial not in arm.scheduler.hopeless(arm.peers, to_come):
        yield "it could have come back"


def check_ledger(book: Book, ledger: Path) -> None:
    """Every step was taken, and of a process that was lost, one checkpoint's worth at most again.

    Only optimizers of `modules/` write a ledger. Their trials are told by their learning rates,
    where those are like no other's.
    """
    count = Counter(trial.config["optimizer"]["lr"] for trial in book.searched)
    mine = [trial for trial in book.searched if ":" in trial.optimizer]
    rates = {lr: t for t in mine if count[lr := t.config["optimizer"]["lr"]] == 1}
    trainings = defaultdict(list)
    for path in ledger.iterdir():
        for line in path.read_text().splitlines():
            training, *note = json.loads(line)
            trainings[training].append(Note(*note))
    found = Counter[int]()
    for training, notes in trainings.items():
        trial = rates.get(float(training.split()[0]))
        taken = {note.step for note in notes if note.what == "step"}
        if trial is None or not taken:
            continue  # the model was only tried
        found[trial.number] += 1
        workers: int = book.spec["resources"]["workers"]
        check_redone(f"trial {trial.number}", sorted(notes, key=lambda n: n.time), workers)
        if trial.state == "complete":
            steps = trial.full_samples // trial.config["batch_size"]
            missing = set(range(1, steps + 1)) - taken
            assert not missing, f"trial {trial.number} never took {sorted(missing)}"
    for trial in rates.values():
        seeds = {t.config["seed"] for t in book.confirming if t.source == trial.number}
        assert not trial.reports or found[trial.number] == 1 + len(seeds), (trial.number, found)


class Note(NamedTuple):
    """What an optimizer did, as it saw it."""

    life: str  # one process at work on the training
    what: str  # step, saved (is about to be), restored
    step: int
    time: float  # seconds since the epoch


def check_redone(name: str, notes: list[Note], workers: int) -> None:
    """Each life goes on from the newest checkpoint, or where that was being written when the life
    before was lost, from the one before it."""
    began: list[str] = []
    saved: set[int] = set()
    for life, what, step, _ in notes:
        if what == "restored" or (what == "step" and life not in began):
            start = step if what == "restored" else step - 1
            began.append(life)
            newer = sorted(at for at in saved if at > start)
            assert len(newer) < 2, f"{name}: on from {start}, though saved at {newer}"
        if what == "saved" and life in began[-workers:]:  # of one that was replaced, none counts
            saved.add(step)


def check_parent(folder: Folder, client: MlflowClient) -> None:
    """The search's own run has the answer and the best model."""
    (experiment,) = [e for e in client.search_experiments() if e.name == "chaos"]
    query = f"attributes.run_name = '{folder.id}'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    there = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    missing = {"report.html", "report.json", "plots", "spec.yaml"} - there
    assert not missing, f"MLflow's run of the search is without {missing}"
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.status == "READY" and model.model_id == run.data.tags["diffsweep.model"]


def check_files(folder: Folder) -> None:
    """No file ends in its middle, and nobody holds the lock."""
    assert not DriverLock.held(folder.lock)
    assert folder.history.read_bytes().endswith(b"\n")
    for path in folder.path.rglob("*"):
        if path.is_file() and "tune" not in path.relative_to(folder.path).parts:
            check_file(path)


def check_file(path: Path) -> None:
    try:
        match ".jsonl" if path.name == "mlflow.json" else path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()]
            case ".yaml":
                yaml.safe_load(path.read_text())
            case ".pt":
                torch.load(path, map_location="cpu", weights_only=True)
            case ".png":
                with Image.open(path) as image:
                    image.load()
            case ".html":
                assert path.read_text().rstrip().endswith("</html>")
    except Exception as error:
        raise AssertionError(f"{path} is cut short: {error}") from error


def check_storage(folder: Folder) -> None:
    """The history there is that here; checkpoints are whole; no lease and no request is left."""
    if folder.storage is None:
        return
    names = folder.storage.names()
    history = history_in(folder.storage)
    assert history == folder.history.read_bytes(), "the history in storage is another one"
    left = [name for name in names if name.startswith(("driver.", "requests/"))]
    assert not left, f"left in storage: {left}"
    for number in read_book(folder.history).trials:
        part = folder.storage.sub(f"trials/{number}")
        for checkpoint in saved(part.names()):
            digest = hashlib.sha256(part.read(checkpoint.name)).hexdigest()
            assert digest == checkpoint.sha256, f"{checkpoint.name} of trial {number} is damaged"
    for place in (folder.report, folder.best):
        here = {
            f"{place.name}/{file.relative_to(place).as_posix()}": file for file in files(place)
        }
        there = {name for name in names if name.startswith(f"{place.name}/")}
        assert set(here) <= there, f"not in storage: {sorted(set(here) - there)}"
        for name, file in here.items():
            assert folder.storage.read(name) == file.read_bytes(), f"{name} is another one there"


def files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def check_take(folder: Folder) -> None:
    """The answer is there, and the best trial can be used."""
    content: dict[str, Any] = json.loads((folder.report / "report.json").read_text())
    assert content["search"] == folder.id
    Exported(folder.best, device="cpu").sample(2, steps=2)
