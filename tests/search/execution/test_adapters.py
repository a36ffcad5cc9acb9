"""What Tune's results and people's requests make of a search: the engine decides, and is told."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.engines import start
from support.specs import make_spec

from search.engine.engine import Engine
from search.errors import StorageAway
from search.execution import adapters
from search.execution.adapters import EngineCallback, EngineScheduler, EngineSearcher
from search.history.control import send
from search.history.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "tiny-000000")
    made.path.mkdir()
    return made


@pytest.fixture
def engine() -> Engine:
    return start(make_spec(space={"optimizer": ["adam", "sgd"]}, budget={"trials": 8}))


@pytest.fixture(autouse=True)
def interrupted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether Tune was to end at once."""
    calls: list[bool] = []
    monkeypatch.setattr(adapters, "interrupt_tune", lambda: calls.append(True))
    return calls


def trial_of(number: int) -> Any:
    return SimpleNamespace(config={"number": number}, status="RUNNING")


def test_a_process_that_another_has_replaced_ends_alone(
    engine: Engine, folder: Folder, interrupted: list[bool]
) -> None:
    searcher = EngineSearcher(engine, folder, 2, {}, lambda: None)  # type: ignore[arg-type]
    number = searcher.suggest("a")["number"]
    result = {"failure": "superseded", "why": "another process has taken over this trial"}
    scheduler = EngineScheduler(engine, lambda: None)
    assert scheduler.on_trial_result(None, trial_of(number), result) == scheduler.STOP
    assert engine.error is None and not interrupted
    assert number in engine.active and engine.book.trials[number].state == "pending"


@pytest.mark.parametrize("failure", ["storage", "disk"])
def test_what_no_trial_is_at_fault_for_interrupts_the_search(
    failure: str, engine: Engine, folder: Folder, interrupted: list[bool]
) -> None:
    searcher = EngineSearcher(engine, folder, 2, {}, lambda: None)  # type: ignore[arg-type]
    numbers = [searcher.suggest(id)["number"] for id in "ab"]
    result = {"failure": failure, "why": "node-1: No space left on device"}
    EngineScheduler(engine, lambda: None).on_trial_result(None, trial_of(numbers[0]), result)
    assert isinstance(engine.error, StorageAway) and interrupted
    assert "node-1: No space left" in str(engine.error)
    engine.finish()
    assert engine.book.state == "interrupted" and engine.book.counts() == {"paused": 2}


def test_a_full_disk_of_the_driver_interrupts_the_search_in_one_line(
    engine: Engine, interrupted: list[bool]
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    EngineScheduler(engine, lambda: None).fail(error)
    assert isinstance(engine.error, StorageAway) and interrupted
    assert str(engine.error).startswith("infrastructure: No space left on device; `diffsweep ")


def test_a_stop_that_came_too_late_for_its_driver_stops_no_other(
    engine: Engine, folder: Folder
) -> None:
    send(folder, "stop", session=engine.book.sessions)
    engine.history.write("start", search=folder.id, spec=engine.book.spec, format=1)  # a resume
    callback = EngineCallback(engine, folder)
    callback.on_step_begin(0, [])
    assert engine.stopping is None
    send(folder, "stop", session=engine.book.sessions)
    callback.looked_at = 0.0
    callback.on_step_begin(0, [])
    assert engine.stopping == "stopped"


def test_a_trial_whose_process_is_lost_waits_for_another(engine: Engine, folder: Folder) -> None:
    searcher = EngineSearcher(engine, folder, 2, {}, lambda: None)  # type: ignore[arg-type]
    callback = EngineCallback(engine, folder)
    tune_trial = trial_of(searcher.suggest("a")["number"])
    tune_trial.error_file = None
    callback.on_trial_start(0, [], tune_trial)
    assert engine.book.trials[0].state == "running"
    callback.on_trial_recover(0, [], tune_trial)
    assert engine.book.trials[0].state == "pending" and engine.book.trials[0].began is None


def test_a_process_lost_while_it_starts_is_not_the_end_of_its_trial(
    engine: Engine, folder: Folder
) -> None:
    searcher = EngineSearcher(engine, folder, 2, {}, lambda: None)  # type: ignore[arg-type]
    number = searcher.suggest("a")["number"]
    for turn in range(engine.spec.retries):  # Tune gives up a trial that had not begun
        searcher.on_trial_complete("abcdef"[turn], error=True)
        assert engine.book.trials[number].state == "pending"
        assert searcher.suggest("abcdef"[turn + 1])["number"] == number
    searcher.on_trial_complete("abcdef"[engine.spec.retries], error=True)
    trial = engine.book.trials[number]
    assert trial.state == "failed" and trial.why == "infrastructure: its process was lost 4 times"
    assert searcher.suggest("z")["number"] != number


def test_of_the_trials_that_wait_the_first_is_run_and_those_that_ended_cost_nothing() -> None:
    def waits(number: int, status: str = "PENDING") -> Any:
        return SimpleNamespace(config={"number": number}, status=status)

    def controller(*live: Any) -> Any:  # which would be asked in vain for all that ever were
        return SimpleNamespace(get_live_trials=lambda: live)

    scheduler = EngineScheduler(None, lambda: None)  # type: ignore[arg-type]
    assert scheduler.choose_trial_to_run(controller()) is None
    assert scheduler.choose_trial_to_run(controller(waits(3, "RUNNING"))) is None
    chosen = scheduler.choose_trial_to_run(controller(waits(3, "RUNNING"), waits(7), waits(5)))
    assert chosen is not None and chosen.config["number"] == 5
