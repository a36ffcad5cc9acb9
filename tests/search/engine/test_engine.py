"""The decisions of a search, with reports fed by hand; and that no restart changes them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from support.engines import OPENED, Clock, advance, chosen, metrics, run, start
from support.specs import make_spec

from search.engine.engine import Engine
from search.errors import SearchFailed
from search.history.book import ENDED
from search.history.log import History

OPTIMIZERS = {"optimizer": ["adam", "sgd"]}


@pytest.fixture(autouse=True)
def opened() -> Iterator[list[History]]:
    """Histories that the test opened, closed at its end."""
    OPENED.clear()
    yield OPENED
    for history in OPENED:
        history.close()


def test_a_search_ends_with_every_trial_ended_and_the_best_of_each_optimizer_complete() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 12}))
    run(engine)
    engine.finish()
    assert engine.book.state == "complete"
    assert len(engine.book.trials) == 12
    assert all(trial.state in ENDED for trial in engine.book.trials.values())
    complete = {t.optimizer for t in engine.book.trials.values() if t.state == "complete"}
    assert complete == {"adam", "sgd"}


def test_published_defaults_come_first_and_the_first_runs_in_full() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 8}))
    run(engine)
    first, second = engine.book.trials[0], engine.book.trials[1]
    assert first.baseline and first.optimizer == "adam" and first.state == "complete"
    assert first.config["optimizer"]["lr"] == 1e-4
    assert second.baseline and second.optimizer == "sgd"


def test_each_optimizer_gets_its_quota_before_the_sampler_decides() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 20}))
    run(engine)
    first = [trial.optimizer for trial in list(engine.book.trials.values())[:8]]
    assert Counter(first) == {"adam": 4, "sgd": 4}


def test_the_quota_spreads_the_learning_rate_over_its_range() -> None:
    engine = start(make_spec(space={"optimizer": ["adam"]}, baselines="none"))
    run(engine, until=40)
    rates = [t.config["optimizer"]["lr"] for t in list(engine.book.trials.values())[:4]]
    strata = {int(4 * math.log(rate / 1e-5) / math.log(1e3)) for rate in rates}
    assert strata == {0, 1, 2, 3}


def test_equal_allocation_gives_each_optimizer_as_many_trials_and_its_own_rungs() -> None:
    engine = start(make_spec(space=OPTIMIZERS, allocation="equal", budget={"trials": 13}))
    run(engine)
    engine.finish()
    trials = engine.book.trials.values()
    assert Counter(t.optimizer for t in trials) == {"adam": 6, "sgd": 6}
    # sgd's losses are all above adam's: only a bracket of its own lets the better half go on
    far = Counter(t.optimizer for t in trials if len(t.reports) > 1)
    assert far["sgd"] >= 3
    share = 6 * 16 * 8
    for name in OPTIMIZERS["optimizer"]:
        assert sum(t.samples for t in trials if t.optimizer == name) <= share


def test_a_proposal_depends_on_the_history_alone(tmp_path: Path) -> None:
    spec = make_spec(space=OPTIMIZERS, budget={"trials": 20})
    unbroken = start(spec, tmp_path / "a.jsonl")
    run(unbroken, workers=1)
    for stop_at in (1, 7, 16):
        path = tmp_path / f"{stop_at}.jsonl"
        broken = start(spec, path)
        run(broken, workers=1, until=stop_at)
        broken.history.close()  # and the driver is gone
        again = start(spec, path)
        run(again, workers=1)
        assert chosen(again) == chosen(unbroken)
        states = [trial.state for trial in unbroken.book.trials.values()]
        assert [trial.state for trial in again.book.trials.values()] == states


def test_another_seed_proposes_something_else() -> None:
    one, two = (start(make_spec(sampler={"seed": seed}, baselines="none")) for seed in (0, 1))
    assert one.next() and two.next()
    assert chosen(one) != chosen(two)


def test_a_trial_whose_process_starts_again_is_not_taken_to_hang(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "a.jsonl"
    spec = make_spec(trial_timeout=60)
    engine = start(spec, path, clock)
    trial = engine.next()
    assert trial and engine.begin(trial.number)
    clock.now += 61
    engine.lose(trial.number)
    assert engine.hung() == []
    engine.begin(trial.number)
    assert engine.hung() == []
    engine.history.close()
    clock.now += 1000  # the driver was killed
    again = start(spec, path, clock)
    assert again.next() is not None and again.hung() == []
    again.begin(trial.number)
    clock.now += 61
    assert again.hung() == [trial.number]


def test_a_report_that_is_sent_again_is_recorded_once_and_decided_alike(tmp_path: Path) -> None:
    engine = start(make_spec(space=OPTIMIZERS))
    trial = engine.next()
    assert trial is not None
    engine.begin(trial.number)
    for _ in range(2):
        assert engine.report(trial.number, metrics(trial, 16, 0.5))
    assert len(trial.reports) == 1
    assert engine.report(trial.number, metrics(trial, 8, 0.7))  # from before the checkpoint
    assert len(trial.reports) == 1


def test_divergence_ends_a_trial_and_leaves_no_number_that_is_none() -> None:
    engine = start(make_spec(space=OPTIMIZERS))
    trial = engine.next()
    assert trial is not None
    report = metrics(trial, 16, float("nan")) | {"diverged_at": 2}
    assert not engine.report(trial.number, report)
    assert trial.state == "diverged" and "val_loss" not in trial.reports[0]
    study = engine.arms.all[0].sampler.study([trial])
    (told,) = study.get_trials()
    assert told.state.name == "PRUNED"
    assert max(told.intermediate_values.values()) > 1  # the penalty, a finite one


def test_a_report_without_the_objective_fails_the_search_and_says_what_there_was() -> None:
    engine = start(make_spec(space=OPTIMIZERS))
    trial = engine.next()
    assert trial is not None
    with pytest.raises(SearchFailed, match=r"reported no val_loss, only samples, step, loss"):
        engine.report(trial.number, {"samples": 8, "step": 1, "loss": 1.0})


def test_optuna_sees_every_state_as_it_is() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 10}))
    run(engine, until=12)
    trials = list(engine.book.trials.values())
    expected = {"complete": "COMPLETE", "running": "RUNNING", "pending": "RUNNING"}
    for trial, told in zip(
        trials, engine.arms.all[0].sampler.study(trials).get_trials(), strict=True
    ):
        assert told.state.name == expected.get(trial.state, "PRUNED")
        assert list(told.intermediate_values) == [r["samples"] for r in trial.reports]


def test_wall_clock_ends_the_search_with_its_trials_paused() -> None:
    clock = Clock()
    engine = start(make_spec(space=OPTIMIZERS, budget={"wall_clock": 60}), clock=clock)
    run(engine, until=1)
    clock.now += 61
    run(engine)
    engine.finish()
    assert engine.stopping == "wall_clock" and engine.book.state == "complete"
    cut = [trial for trial in engine.book.trials.values() if trial.again]
    assert cut and all(trial.shown == "paused" for trial in cut)


def test_time_runs_out_for_those_at_work_when_all_trials_are_proposed_too() -> None:
    clock = Clock()
    budget = {"trials": 2, "wall_clock": 100}
    engine = start(make_spec(space=OPTIMIZERS, budget=budget), clock=clock)
    for _ in range(2):
        engine.begin(trial.number) if (trial := engine.next()) else pytest.fail("no trial")
    assert engine.next() is None and engine.stopping == "trials"
    clock.now += 101
    for number in (0, 1):
        advance(engine, engine.book.trials[number])
    assert engine.next() is None
    engine.finish()
    assert (engine.book.state, engine.book.why) == ("complete", "wall_clock")
    assert {t.shown for t in engine.book.trials.values()} == {"paused"}


def test_what_was_cut_off_waits_where_there_is_no_time_for_it(tmp_path: Path) -> None:
    clock = Clock()
    spec = make_spec(space=OPTIMIZERS, budget={"trials": 9, "wall_clock": 100})
    first = start(spec, tmp_path / "a.jsonl", clock)
    run(first, until=3)  # and then it is killed
    assert first.active
    clock.now += 50
    first.history.write("promote", trial=min(first.active), full=False)  # its last sign of life
    first.history.close()
    clock.now += 1000
    again = start(spec, tmp_path / "a.jsonl", clock)
    clock.now += 51
    assert again.next() is None and again.stopping == "wall_clock"
    again.finish()
    assert again.book.state == "complete"
    assert not {"running", "pending"} & {t.state for t in again.book.trials.values()}


def test_the_best_of_what_was_proposed_is_run_in_full_beside_the_default() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 8}))
    run(engine)
    complete = [t for t in engine.book.trials.values() if t.state == "complete"]
    assert engine.book.trials[0].baseline and engine.book.trials[0] in complete
    assert [t for t in complete if t.optimizer == "adam" and not t.baseline]


def test_a_sampler_learns_from_earlier_searches_from_the_start() -> None:
    spec = make_spec(space={"optimizer": ["adam"]}, baselines="none", budget={"trials": 12})
    before = start(spec)
    run(before)
    plain, warm = start(spec), start(spec)
    earlier = [asdict(t) | {"number": -1 - t.number} for t in before.book.trials.values()]
    warm.history.write("import", trials=earlier)
    first = [engine.next() for engine in (plain, warm)]
    assert first[0] and first[1] and first[0].chosen != first[1].chosen


def test_hours_are_counted_over_all_trials() -> None:
    clock = Clock()
    engine = start(make_spec(space=OPTIMIZERS, budget={"gpu_hours": 1.0}), clock=clock)
    run(engine, until=1)
    clock.now += 1801  # two trials at work for half an hour each
    run(engine)
    assert engine.stopping == "gpu_hours"


def test_stopping_lets_running_trials_go_on_and_begins_none() -> None:
    engine = start(make_spec(space=OPTIMIZERS))
    run(engine, until=2)
    begun = len(engine.book.trials)
    engine.stopping = "stopped"
    run(engine)
    engine.finish()
    assert engine.book.state == "stopped" and len(engine.book.trials) == begun


def test_an_interrupted_search_goes_on_with_what_was_cut_off(tmp_path: Path) -> None:
    spec = make_spec(space=OPTIMIZERS, budget={"trials": 10})
    engine = start(spec, tmp_path / "h.jsonl")
    run(engine, until=5)
    cut = set(engine.active)
    engine.finish()
    assert engine.book.state == "interrupted"
    assert all(engine.book.trials[number].shown == "paused" for number in cut)
    engine.history.close()
    again = start(spec, tmp_path / "h.jsonl")
    assert {again.next().number for _ in cut} == cut  # type: ignore[union-attr]
    run(again)
    again.finish()
    assert again.book.state == "complete" and len(again.book.trials) == 10


def test_a_killed_trial_stays_dead(tmp_path: Path) -> None:
    spec = make_spec(space=OPTIMIZERS, budget={"trials": 6})
    engine = start(spec, tmp_path / "h.jsonl")
    run(engine, until=3)
    victim = max(engine.active)
    assert engine.kill(victim) and not engine.kill(victim)
    trial = engine.book.trials[victim]
    assert not engine.report(victim, metrics(trial, 128, 0.1))  # its process did not know yet
    run(engine)
    engine.finish()
    assert trial.state == "cancelled" and not trial.again


def test_a_trial_that_is_killed_while_its_process_starts_stays_dead() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 2}))
    trial = engine.next()
    assert trial and engine.kill(trial.number)
    assert not engine.begin(trial.number)
    assert trial.state == "cancelled"


def test_an_added_config_runs_in_full_and_outside_the_budget() -> None:
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 6}))
    run(engine, until=4)
    engine.add({**engine.book.trials[1].chosen, "sgd.lr": 0.5})
    run(engine)
    engine.finish()
    added = [trial for trial in engine.book.trials.values() if trial.added]
    assert len(engine.book.trials) == 7
    assert [trial.state for trial in added] == ["complete"]
    assert added[0].config["optimizer"]["lr"] == 0.5


def test_a_trial_without_a_report_for_too_long_is_found() -> None:
    clock = Clock()
    engine = start(make_spec(space=OPTIMIZERS, trial_timeout="1m"), clock=clock)
    run(engine, until=1)
    assert engine.hung() == []
    clock.now += 61
    assert set(engine.hung()) == {
        t.number for t in engine.book.trials.values() if t.state == "running"
    }


def test_a_trial_that_holds_no_gpu_is_told_to_use_the_cpu() -> None:
    """Else its export would mean another device on a machine where it sees one."""
    chosen = {"optimizer": "adam", "adam.lr": 1e-3}
    for keys, device in (
        ({}, "cpu"),
        ({"resources": {"gpu": 0.5}}, "auto"),
        ({"resources": {"gpu": 1}, "trial": {"device": "cuda"}}, "cuda"),
    ):
        assert make_spec(**keys).resolve(chosen).device == device


def test_a_trial_that_was_cut_off_is_handed_out_once(tmp_path: Path) -> None:
    """Also where a rung would promote it, or the best of its optimizer is to finish."""
    spec = make_spec(space={"optimizer": ["adam"]}, budget={"trials": 8})
    for reports in range(1, 30):
        path = tmp_path / f"{reports}.jsonl"
        first = start(spec, path)
        run(first, until=reports)
        first.finish()
        first.history.close()
        again = start(spec, path)
        given = [trial.number for _ in range(4) if (trial := again.next()) is not None]
        assert len(given) == len(set(given))
        again.history.close()


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_the_users_word_stands_when_time_runs_out(how: str) -> None:
    clock = Clock()
    spec = make_spec(
        space=OPTIMIZERS,
        baselines="none",
        budget={"trials": 20, "wall_clock": 100},
        confirm={"seeds": 2},
        scheduler={"type": "none"},
    )
    engine = start(spec, clock=clock)
    one, two = engine.next(), engine.next()
    assert one and two and engine.begin(one.number) and engine.begin(two.number)
    engine.report(one.number, metrics(one, one.full_samples, 0.5))
    engine.ask_to_stop(how)
    engine.ask_to_stop("stopped")  # which takes nothing back
    clock.now += 101
    assert not engine.report(two.number, metrics(two, 64, 0.9))
    assert engine.next() is None and engine.stopping == how
    engine.finish()
    assert engine.book.state == how and not engine.book.stage("confirm")


@pytest.mark.parametrize("reports", range(12))
def test_a_search_is_complete_only_when_nothing_is_left_to_begin(reports: int) -> None:
    """A signal can come when no trial is at work, between two of them."""
    engine = start(make_spec(space=OPTIMIZERS, budget={"trials": 3}, confirm={"seeds": 2}))
    run(engine, workers=1, until=reports)
    while engine.active:
        advance(engine, engine.book.trials[min(engine.active)])
    engine.finish()
    assert engine.book.state == "interrupted"
    again = Engine(engine.spec, engine.history)
    run(again)
    again.finish()
    assert again.book.state == "complete"


class Storage:
    """A mirror that holds up each decision for so long."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.away, self.flushed = clock, 0.0, 0

    def flush(self) -> None:
        self.clock.now += self.away
        self.flushed += 1

    def check(self) -> None: ...

    def waiting(self) -> str | None:
        return None

    def size(self) -> int:
        return 0


def test_no_trial_is_silent_while_the_storage_holds_up_the_driver() -> None:
    clock = Clock()
    mirror = Storage(clock)
    spec = make_spec(trial_timeout="5m", scheduler={"type": "none"})
    engine = start(spec, clock=clock, mirror=mirror)
    trials = [trial for _ in range(3) if (trial := engine.next())]
    for trial in trials:
        engine.begin(trial.number)
    mirror.away = 360.0
    engine.report(0, metrics(trials[0], trials[0].full_samples, 0.5))
    mirror.away = 0.0
    assert engine.hung() == []
    clock.now += 299
    assert engine.hung() == []
    clock.now += 2
    assert sorted(engine.hung()) == [1, 2]


def test_what_is_decided_at_once_is_one_write_to_the_storage() -> None:
    clock = Clock()
    mirror = Storage(clock)
    spec = make_spec(budget={"trials": 8}, scheduler={"type": "asha", "grace_steps": 1})
    engine = start(spec, clock=clock, mirror=mirror)
    decided: list[str] = []
    engine.history.tell = lambda event: decided.append(event["event"])
    most = 0
    while trial := engine.next():
        engine.begin(trial.number)
        while trial.number in engine.active:
            before, told = mirror.flushed, len(decided)
            advance(engine, trial)
            assert mirror.flushed - before <= 1
            most = max(most, len(decided) - told)
    before = mirror.flushed
    engine.finish()
    assert mirror.flushed == before + 1
    assert most > 2  # a report, the end of its trial, and of others that can't come back


def test_a_trial_that_does_known_steps_again_is_not_silent() -> None:
    clock = Clock()
    engine = start(make_spec(trial_timeout="5m", scheduler={"type": "none"}), clock=clock)
    trial = engine.next()
    assert trial is not None and engine.begin(trial.number)
    engine.report(trial.number, metrics(trial, 64, 0.5))
    engine.end(trial.number, "failed", "code: ...")
    engine.history.write("retry", trial=trial.number)
    again = Engine(engine.spec, engine.history, stopwatch=clock)
    assert again.next() is trial and again.begin(trial.number)
    for samples in (8, 16, 24, 32):
        clock.now += 200
        assert again.report(trial.number, metrics(trial, samples, 0.5)) and not again.hung()


def test_an_added_config_is_taken_once_and_a_bad_one_not_at_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = start(make_spec(space=OPTIMIZERS))
    chosen = {"optimizer": "adam", "adam.lr": 0.1, "warmup": 0.0, "lr_schedule": "constant"}
    for _ in range(2):  # a driver died before the request was forgotten
        engine.add(chosen, "request-1")
    engine.add(chosen | {"warmup": 1.25}, "request-2")
    assert [trial.added for trial in engine.book.trials.values()] == [True]
    assert "warmup" in caplog.text and "can't be trained" in caplog.text


def test_with_equal_allocation_the_optimizer_that_got_least_is_promoted_first() -> None:
    spec = make_spec(space=OPTIMIZERS, allocation="equal", budget={"trials": 16}, baselines="none")
    engine = start(spec)
    behind: list[int] = []
    while (trial := engine.next()) is not None:
        spent = engine.book.spent
        if trial.samples:  # promoted: its optimizer had no more than the other, or that one none
            behind.append(spent[trial.optimizer] - min(spent[name] for name in ("adam", "sgd")))
        engine.begin(trial.number)
        while trial.number in engine.active:
            advance(engine, trial)
    assert behind and behind.count(0) > len(behind) / 2
