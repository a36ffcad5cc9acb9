"""Winners train again on fresh seeds: which, when, on what, and again after any end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engines import advance, start
from support.specs import SMALL, make_config, make_spec

from search.answer.standing import standing
from search.engine.confirm import owed, planned, reruns_of, winners
from search.engine.engine import Engine
from search.history.book import ENDED, Trial
from search.history.log import History, events, read_book
from search.spec.spec import Confirm, SearchSpec
from trainable.actor import checkpoint
from trainable.config import TrialConfig
from trainable.data.loading import load_data
from trainable.metrics import TEST_METRICS
from trainable.report import report
from trainable.train import TrainState, train_until

TWO = {"optimizer": {"adam": {}, "sgd": {}}}
SEEDS = [1, 2, 3]


def spec_with(confirm: dict[str, Any] | None = None, **keys: Any) -> SearchSpec:
    given = {"space": TWO, "budget": {"trials": 4}, "scheduler": {"type": "none"}} | keys
    return make_spec(**given, confirm={"seeds": 3} | (confirm or {}))


Begin = Callable[[SearchSpec, Path], Engine]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a driver's engine on a history, which is new or left behind by another."""
    opened = []

    def start(spec: SearchSpec, path: Path) -> Engine:
        opened.append(history := History(path))
        history.write("start", search="tiny-000000", spec=spec.model_dump(mode="json"), format=1)
        return Engine(spec, history)

    yield start
    for history in opened:
        history.close()


def finish(engine: Engine, trial: Trial, loss: float) -> None:
    """Report the whole training of a trial at once."""
    engine.begin(trial.number)
    steps, batch = trial.config["steps"], trial.config["batch_size"]
    metrics = {"step": steps, "samples": steps * batch, "val_loss": loss, "diverged_at": None}
    assert not engine.report(trial.number, metrics)


def play(engine: Engine, most: int = 1000) -> list[Trial]:
    """Run trials one by one, losses falling with their number, until there are no more."""
    played = []
    while len(played) < most and (trial := engine.next()) is not None:
        finish(engine, trial, 1 / (1 + trial.number))
        played.append(trial)
    return played


def test_the_best_of_each_optimizer_trains_again_on_the_same_fresh_seeds(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with(), tmp_path / "history.jsonl")
    play(engine)
    confirmed = engine.book.stage("confirm")
    best = winners(engine.book, Confirm(seeds=3))
    assert [t.optimizer for t in best] == ["sgd", "adam"] and len(confirmed) == 6
    assert [t.number for t in confirmed] == [4, 5, 6, 7, 8, 9]  # after the search's own
    for winner in best:
        again = [t for t in confirmed if t.source == winner.number]
        assert [t.config["seed"] for t in again] == SEEDS
        assert all(t.config | {"seed": 0} == winner.config for t in again)
        assert all(t.chosen == winner.chosen and t.state == "complete" for t in again)


def test_top_and_per_choose_who_is_confirmed(begin: Begin, tmp_path: Path) -> None:
    engine = begin(spec_with({"per": "search", "top": 3}), tmp_path / "history.jsonl")
    play(engine)
    assert {t.source for t in engine.book.stage("confirm")} == {1, 2, 3}
    assert [t.number for t in winners(engine.book, Confirm(top=2))] == [3, 2, 1, 0]
    assert [t.number for t in winners(engine.book, Confirm(per="search"))] == [3]


def test_nothing_is_confirmed_before_all_trials_of_the_search_are_through(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with(), tmp_path / "history.jsonl")
    at_work = [engine.next() for _ in range(4)]
    for trial in at_work[:3]:
        assert trial is not None
        finish(engine, trial, 0.5)
    assert engine.next() is None
    assert at_work[3] is not None
    finish(engine, at_work[3], 0.1)
    first = engine.next()
    assert first is not None and (first.stage, first.source) == ("confirm", 3)


def test_with_equal_allocation_a_winner_is_confirmed_while_another_optimizer_still_trains(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with(allocation="equal"), tmp_path / "history.jsonl")
    at_work = [trial for _ in range(4) if (trial := engine.next()) is not None]
    mine, others = ([t for t in at_work if t.optimizer == name] for name in ("sgd", "adam"))
    finish(engine, mine[0], 0.5)
    assert engine.next() is None  # its other trial may become better
    finish(engine, mine[1], 0.4)
    confirmed = [engine.next() for _ in range(4)]
    assert [t and (t.stage, t.source, t.config["seed"]) for t in confirmed[:3]] == [
        ("confirm", mine[1].number, seed) for seed in SEEDS
    ]
    assert confirmed[3] is None  # all that is known to be owed
    for trial, loss in zip(others, (0.3, 0.2), strict=True):
        finish(engine, trial, loss)
    assert {t.source for t in play(engine)} == {others[1].number}
    assert len(engine.book.stage("confirm")) == 6


def test_of_the_whole_search_nothing_is_confirmed_while_any_trial_is_at_work(
    begin: Begin, tmp_path: Path
) -> None:
    spec = spec_with({"per": "search"}, allocation="equal")
    engine = begin(spec, tmp_path / "history.jsonl")
    at_work = [trial for _ in range(4) if (trial := engine.next()) is not None]
    for trial in at_work[:3]:
        finish(engine, trial, 0.5)
    assert engine.next() is None


def test_a_trial_that_goes_on_after_a_resume_is_awaited_from_the_moment_it_is_chosen(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with(), tmp_path / "history.jsonl")
    at_work = [trial for _ in range(4) if (trial := engine.next()) is not None]
    for trial in at_work[:3]:
        finish(engine, trial, 0.5)
    engine.end(at_work[3].number, "paused", "search interrupted", again=True)
    later = Engine(engine.spec, engine.history)
    again = later.next()
    assert again is not None and again.number == at_work[3].number
    assert later.next() is None  # its process has yet to start


def test_nothing_stops_a_confirm_trial_early(begin: Begin, tmp_path: Path) -> None:
    searched = {"scheduler": {"type": "asha", "min_results": 2}, "budget": {"trials": 4}}
    engine = begin(spec_with(**searched), tmp_path / "history.jsonl")
    play(engine, most=4)
    trial = engine.next()
    assert trial is not None and trial.stage == "confirm" and engine.rung_levels(trial) == []
    engine.begin(trial.number)
    bad = {"step": 4, "samples": 32, "val_loss": 99.0, "diverged_at": None}
    assert engine.report(trial.number, bad)  # far worse than any, and goes on
    finish(engine, trial, 99.0)
    assert engine.book.trials[trial.number].state == "complete"


@pytest.mark.parametrize("done", range(7))
def test_a_confirmation_goes_on_where_its_driver_died(
    done: int, begin: Begin, tmp_path: Path
) -> None:
    unbroken = begin(spec_with(), tmp_path / "unbroken.jsonl")
    play(unbroken)
    first = begin(spec_with(), tmp_path / "history.jsonl")
    play(first, most=4 + done)
    cut = first.next()  # asked for, never finished
    second = begin(spec_with(), tmp_path / "history.jsonl")
    played = play(second)
    if cut is not None:
        assert played[0].number == cut.number
    expected = {(t.number, t.source, t.config["seed"]) for t in unbroken.book.trials.values()}
    assert expected == {
        (t.number, t.source, t.config["seed"]) for t in second.book.trials.values()
    }
    assert all(trial.state in ENDED for trial in second.book.trials.values())


def test_confirming_again_with_more_seeds_adds_only_those(begin: Begin, tmp_path: Path) -> None:
    play(begin(spec_with(), tmp_path / "history.jsonl"))
    engine = begin(spec_with({"seeds": 5}), tmp_path / "history.jsonl")
    assert planned(engine.book) == 10
    added = play(engine)
    assert [t.config["seed"] for t in added] == [4, 4, 5, 5]
    assert owed(engine.book, Confirm(seeds=5)) == []


LEVELS = {"adam": 0.200, "sgd": 0.206}  # what each is worth on the test part


SPEED = {"adam": 0.5, "sgd": 1.0}  # steps a second


def auto(engine: Engine, noise: float = 0.0, sgd: float = 0.206, most: int = 1000) -> list[Trial]:
    """Play a search to its end; losses of fresh seeds depend on optimizer, config and seed."""
    levels, played = LEVELS | {"sgd": sgd}, list[Trial]()
    while len(played) < most and (trial := engine.next()) is not None:
        engine.begin(trial.number)
        steps, batch, seed = (trial.config[key] for key in ("steps", "batch_size", "seed"))
        luck = noise * random.Random(f"{trial.optimizer} {seed}").uniform(-1, 1)
        loss = levels[trial.optimizer] + luck
        own = trial.number if trial.source is None else trial.source
        metrics = {"step": steps, "samples": steps * batch, "val_loss": loss + own / 1e4}
        metrics |= {"test_loss": loss, "diverged_at": None}
        metrics["steps_per_second"] = SPEED[trial.optimizer]
        assert not engine.report(trial.number, metrics)
        played.append(trial)
    return played


def test_by_auto_the_best_two_of_each_optimizer_compete_first_and_only_one_is_judged(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with({"seeds": "auto"}), tmp_path / "history.jsonl")
    auto(engine)
    again = [(t.source, t.config["seed"]) for t in engine.book.stage("confirm")]
    rivals = {trial.number for trial in engine.book.searched}
    assert set(again[:8]) == {(number, seed) for number in rivals for seed in (1001, 1002)}
    best = {min(t.number for t in engine.book.searched if t.optimizer == o) for o in LEVELS}
    assert {source for source, _ in again[8:]} == best  # 1e-4 of the objective decided
    assert [t.number for t in winners(engine.book, Confirm())] == sorted(best)


def test_by_auto_the_seeds_end_where_all_is_decided(begin: Begin, tmp_path: Path) -> None:
    engine = begin(spec_with({"seeds": "auto"}), tmp_path / "history.jsonl")
    auto(engine, sgd=0.4)
    judged = [t for t in engine.book.stage("confirm") if t.config["seed"] < 1000]
    assert sorted(t.config["seed"] for t in judged) == [1, 1, 2, 2, 3, 3]
    stood = standing(engine.book, 0.01)
    assert stood.judged is not None and stood.judged.beaten == {"sgd"}
    assert planned(engine.book) == len(engine.book.stage("confirm"))


def test_by_auto_the_undecided_go_on_to_the_next_look(begin: Begin, tmp_path: Path) -> None:
    engine = begin(spec_with({"seeds": "auto"}), tmp_path / "history.jsonl")
    auto(engine, noise=0.004, sgd=0.212)
    judged = [t for t in engine.book.stage("confirm") if t.config["seed"] < 1000]
    seeds = sorted({t.config["seed"] for t in judged})
    assert len(seeds) in (5, 8, 12) and len(judged) == 2 * len(seeds)
    stood = standing(engine.book, 0.01)
    assert stood.judged is not None and stood.judged.seeds == len(seeds)


def test_after_auto_more_seeds_by_hand_are_for_the_undecided_alone(
    begin: Begin, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    auto(begin(spec_with({"seeds": "auto"}), path), sgd=0.4)
    assert auto(begin(spec_with({"seeds": 20}), path), sgd=0.4) == []
    other = tmp_path / "other.jsonl"
    auto(begin(spec_with({"seeds": "auto"}), other), noise=0.004, sgd=0.2025)
    more = auto(begin(spec_with({"seeds": 14}), other), noise=0.004, sgd=0.2025)
    assert {t.config["seed"] for t in more} >= {13, 14}


@pytest.mark.parametrize(("first", "most"), [(3, 12), (14, 14)])
def test_auto_after_a_number_of_seeds_goes_on_from_there(
    first: int, most: int, begin: Begin, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    auto(begin(spec_with({"seeds": first}), path), noise=0.004, sgd=0.212)
    engine = begin(spec_with({"seeds": "auto"}), path)
    auto(engine, noise=0.004, sgd=0.212)
    judged = {t.config["seed"] for t in engine.book.stage("confirm") if t.config["seed"] < 1000}
    assert set(range(1, first + 1)) <= judged <= set(range(1, most + 1))
    assert standing(engine.book, 0.01).judged is not None


@pytest.mark.parametrize("done", range(0, 15, 2))
def test_a_confirmation_by_auto_goes_on_where_its_driver_died(
    done: int, begin: Begin, tmp_path: Path
) -> None:
    spec = spec_with({"seeds": "auto"})
    unbroken = begin(spec, tmp_path / "unbroken.jsonl")
    auto(unbroken, 0.004)
    first = begin(spec, tmp_path / "history.jsonl")
    auto(first, 0.004, most=4 + done)
    first.next()  # asked for, never finished
    second = begin(spec, tmp_path / "history.jsonl")
    auto(second, 0.004)
    trials = [
        {(t.number, t.source, t.config["seed"]) for t in engine.book.trials.values()}
        for engine in (unbroken, second)
    ]
    assert trials[0] == trials[1]


def equal_time(**keys: Any) -> SearchSpec:
    space = TWO | {"lr_schedule": "linear"} | keys
    return spec_with({"seeds": "auto", "equal_time": True}, space=space)


def test_equal_time_trains_the_slow_one_again_for_as_long_as_the_fast_one_took(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(equal_time(), tmp_path / "history.jsonl")
    auto(engine, sgd=0.4)
    (adam,) = (t for t in winners(engine.book, Confirm()) if t.optimizer == "adam")
    again = reruns_of(engine.book, adam)
    assert [t.config["seed"] for t in again] == SEEDS  # of the first look
    assert {t.config["steps"] for t in again} == {adam.config["steps"] // 2}
    assert {t.source for t in again} == {adam.number} and again[-1] is engine.book.confirming[-1]
    stood = standing(engine.book, 0.01)
    assert stood.judged is not None and stood.judged.seeds == 3
    assert stood.equal_time is not None and stood.equal_time.cut == []
    for trial in again:
        trial.reports[-1]["test_loss"] = 0.7
    timed = standing(engine.book, 0.01).equal_time
    assert timed is not None and (timed.verdicts[0].a, timed.verdicts[0].b) == ("sgd", "adam")
    assert timed.verdicts[0].difference == pytest.approx(0.4 - 0.7)
    assert standing(engine.book, 0.01).verdicts == stood.verdicts  # they count in no other


def test_at_equal_time_a_steady_schedule_is_read_off_its_curve(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(equal_time(lr_schedule="constant"), tmp_path / "history.jsonl")
    auto(engine, sgd=0.4)
    assert {t.config["steps"] for t in engine.book.stage("confirm")} == {SMALL["steps"]}


def test_splits_each_gives_every_judged_seed_a_split_that_contenders_share(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with({"seeds": "auto", "splits": "each"}), tmp_path / "history.jsonl")
    auto(engine, sgd=0.4)
    for trial in engine.book.stage("confirm"):
        seed = trial.config["seed"]
        assert trial.config.get("split") == (None if seed > 1000 else seed)
        TrialConfig.model_validate(trial.config)
    assert all(trial.config["split"] is None for trial in engine.book.searched)


def test_a_config_with_a_split_trains_and_tests_on_other_examples() -> None:
    data = load_data(make_config().dataset)
    states = [TrainState(make_config(split=split), data, test=True) for split in (None, 1, 2)]
    shown = [{x.tobytes() for x in state.data.test.x} for state in states]
    assert shown[0] != shown[1] != shown[2]
    train_until(states[1], states[1].config.samples)
    assert report(states[1])["test_loss"] > 0


def replicated(**keys: Any) -> SearchSpec:
    given: dict[str, Any] = {"replicates": 2, "allocation": "equal", "budget": {"trials": 16}}
    return spec_with({"seeds": "auto"}, **given | keys)


def test_replicates_are_searches_of_their_own_whose_winners_have_seeds_of_their_own(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(replicated(), tmp_path / "history.jsonl")
    auto(engine)
    trials = engine.book.searched
    by_search = {group: [t for t in trials if t.group == group] for group in engine.arms.groups()}
    assert {group: len(mine) for group, mine in by_search.items()} == dict.fromkeys(
        [(name, r) for r in (0, 1) for name in LEVELS], 4
    )
    studies = {arm.sampler.study_name for arm in engine.arms.all}
    assert studies == {f"tiny-000000/{name}/{r}" for name in LEVELS for r in (0, 1)}
    rates = [[t.config["optimizer"]["lr"] for t in mine[1:]] for mine in by_search.values()]
    assert rates[0] != rates[2]  # adam's two searches
    confirmed = {(t.source, t.config["seed"]) for t in engine.book.stage("confirm")}
    for (_, replicate), mine in by_search.items():
        mine.sort(key=lambda t: t.number)
        expected = {(mine[0].number, 1 + 2 * replicate), (mine[0].number, 2 + 2 * replicate)}
        assert expected <= confirmed
    assert len(confirmed) == 8


def test_the_unit_of_a_verdict_with_replicates_is_the_search(begin: Begin, tmp_path: Path) -> None:
    engine = begin(replicated(), tmp_path / "history.jsonl")
    auto(engine, noise=0.001, sgd=0.4)
    stood = standing(engine.book, 0.01)
    assert [c.name for c in stood.contenders] == ["adam", "sgd"]
    assert stood.units == [[1, 2], [3, 4]] and stood.judged is not None
    (verdict,) = stood.verdicts
    assert verdict.seeds == 2
    values = stood.values("test_loss")
    means = [sum(row) / 2 for row in (values["adam"], values["sgd"])]
    assert verdict.difference == pytest.approx(means[0] - means[1])


def test_without_a_complete_trial_there_is_nothing_to_confirm(
    begin: Begin, tmp_path: Path
) -> None:
    engine = begin(spec_with(), tmp_path / "history.jsonl")
    while (trial := engine.next()) is not None:
        engine.begin(trial.number)
        engine.end(trial.number, "failed", "as it happens")
    assert engine.book.stage("confirm") == []


def test_the_test_part_is_measured_only_where_asked_for_and_changes_nothing() -> None:
    config = make_config()
    data = load_data(config.dataset)
    reports = []
    for test in (False, True):
        state = TrainState(config, data, test=test)
        train_until(state, config.samples)
        reports.append(report(state))
    plain, tested = reports
    assert not set(TEST_METRICS) & set(plain) and set(TEST_METRICS) <= set(tested)
    assert plain["val_loss"] == tested["val_loss"] != tested["test_loss"]
    quartiles = [tested[name] for name in TEST_METRICS[1:]]
    assert sum(quartiles) / 4 == pytest.approx(tested["test_loss"])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what MLflow imports
def test_a_killed_confirmation_is_resumed_to_the_same_end(home: Path, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    content = {
        "name": "tiny",
        "trial": SMALL,
        "space": TWO,
        "budget": {"trials": 2},
        "confirm": {"seeds": 2},
    }
    spec.write_text(json.dumps(content))
    with (tmp_path / "run.log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "cluster.cli", "run", str(spec)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        folder = wait_for_confirm(home, driver)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    subprocess.run([sys.executable, "-m", "cluster.cli", "resume", "tiny"], check=True)
    book = read_book(folder / "history.jsonl")
    assert book.state == "complete"
    confirmed = book.stage("confirm")
    asked = sorted((t.optimizer, t.config["seed"]) for t in confirmed)
    assert asked == [("adam", 1), ("adam", 2), ("sgd", 1), ("sgd", 2)]
    for trial in confirmed:
        assert trial.state == "complete" and "test_loss" in trial.reports[-1]
        assert not (folder / "trials" / str(trial.number) / checkpoint.NAME).exists()
    stages = child_stages(home)
    assert sorted(stages) == ["confirm"] * 4 + ["search"] * 2


def wait_for_confirm(home: Path, driver: subprocess.Popen[bytes]) -> Path:
    """The search's folder, as soon as a confirm trial has ended."""
    while driver.poll() is None:
        for history in home.glob("tiny-*/history.jsonl"):
            known = list(events(history))
            confirming = {e["trial"] for e in known if e.get("stage") == "confirm"}
            if any(e["event"] == "end" and e["trial"] in confirming for e in known):
                return history.parent
        time.sleep(0.05)
    raise AssertionError("the search ended before it could be killed")


def child_stages(home: Path) -> list[str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    return [run.data.tags["diffsweep.stage"] for run in runs if "diffsweep.trial" in run.data.tags]


@pytest.mark.parametrize(
    ("state", "why"),
    [("failed", "infrastructure: its process was lost 4 times"), ("cancelled", "killed by you")],
)
def test_a_seed_that_was_taken_is_judged_without_and_asked_for_in_the_next_session(
    state: str, why: str
) -> None:
    engine = start(make_spec(space=TWO, budget={"trials": 8}, confirm={"seeds": 4}))
    taken: list[int] = []
    while (trial := engine.next()) is not None:
        engine.begin(trial.number)
        while trial.number in engine.active:
            if trial.stage == "confirm" and not taken:
                taken.append(trial.number)
                engine.end(trial.number, state, why)
            else:
                advance(engine, trial)
    engine.finish()
    lost, wanted = engine.book.trials[taken[0]], engine.spec.confirm
    assert wanted is not None and owed(engine.book, wanted) == []  # not again and again
    for confirmed in engine.book.stage("confirm"):
        for said in confirmed.reports:
            said |= {"test_loss": said["val_loss"], "steps_per_second": 1.0}
    stood = standing(engine.book, 0.01)
    assert not stood.unstable and len(stood.contenders) == 2 and len(stood.seeds) == 3
    engine.history.write("start", search="tiny-000000", spec=engine.book.spec, format=1)
    again = [(winner.number, seed) for winner, seed in owed(engine.book, wanted)]
    assert again == [(lost.source, lost.config["seed"])]
