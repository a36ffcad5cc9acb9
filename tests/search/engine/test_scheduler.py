"""Rung rules, with results fed by hand."""

from __future__ import annotations

import pytest
from support.specs import SMALL, make_spec
from support.trials import made, trial

from search.engine.asha import Asha, Results
from search.engine.scheduler import Hyperband, Median, build_scheduler, rung_levels

LOSS = Results("val_loss", "min")


def asha(*rungs: int, factor: int = 2) -> Asha:
    return Asha(rungs or (10, 20, 40), factor, LOSS)


def test_the_first_at_a_rung_waits_for_others() -> None:
    first = trial(0, 0.5)
    assert asha().judge(first, [first]) == "pause"


def test_the_better_of_two_goes_on_and_the_other_is_paused() -> None:
    paused, better = trial(0, 0.5, state="paused"), trial(1, 0.4)
    assert asha().judge(better, [paused, better]) == "promote"
    worse = trial(1, 0.6)
    assert asha().judge(worse, [paused, worse]) == "pause"
    worse.state = "paused"
    assert asha().promotable([paused, worse]) is paused


def test_a_rung_decides_once_it_has_as_many_results_as_asked_for() -> None:
    rule = Asha((10,), 2, LOSS, min_results=4)
    peers = [trial(n, 0.1 * (n + 1), state="paused") for n in range(3)]
    assert rule.promotable(peers) is None
    assert rule.promotable([*peers, trial(3, 0.9, state="paused")]) is peers[0]


def test_a_trial_between_rungs_goes_on() -> None:
    between = trial(0, 0.5, 0.4, 0.3)
    assert asha().judge(between, [between]) == "go"


def test_no_more_than_a_share_goes_on_but_for_a_new_leader() -> None:
    early = [trial(n, loss, 0.1, state="paused") for n, loss in enumerate([0.5, 0.4])]
    others = [trial(2, 0.9, state="paused"), trial(3, 0.8, state="paused")]
    good = trial(4, 0.45)  # among the best half of five, whose two places are taken
    assert asha().judge(good, [*early, *others, good]) == "pause"
    leader = trial(4, 0.3)
    assert asha().judge(leader, [*early, *others, leader]) == "promote"


def test_the_highest_rung_is_promoted_from_first() -> None:
    low = [trial(n, 0.5 + n, state="paused") for n in range(4)]
    high = [trial(4 + n, 0.9, 0.8 + n, state="paused") for n in range(2)]
    promoted = asha().promotable([*low, *high])
    assert promoted is high[0]


def test_an_ended_trial_is_never_promoted_and_takes_no_ones_place() -> None:
    ended, paused = trial(0, 0.1, state="pruned"), trial(1, 0.2, state="paused")
    others = [trial(n, 0.9, state="paused") for n in (2, 3)]
    assert asha().promotable([ended, paused, *others]) is paused


def test_a_report_without_a_number_is_no_result() -> None:
    broken = trial(0, float("nan"))
    others = [trial(n, 0.5, state="paused") for n in (1, 2)]
    assert asha().ranking(0, [broken, *others]) == [1, 2]
    missing = made(3, [{"samples": 10, "step": 1}], "pending")
    assert asha().ranking(0, [missing, *others]) == [1, 2]


def test_a_late_report_does_not_fill_a_lower_rung() -> None:
    late = trial(0, 0.1, every=25)  # its first report is beyond the rung at 20
    assert [asha().ranking(i, [late]) for i in range(3)] == [[], [0], []]


def test_maximizing_turns_the_order() -> None:
    rule = Asha((10,), 2, Results("val_loss", "max"))
    low, high = trial(0, 0.1, state="paused"), trial(1, 0.9, state="paused")
    assert rule.promotable([low, high]) is high


def test_hopeless_trials_are_those_that_no_further_result_can_bring_back() -> None:
    peers = [trial(n, 0.1 * (n + 1), state="paused") for n in range(4)]
    # With nothing to come there are 2 places; with 4 more trials there are 4.
    assert [t.number for t in asha().hopeless(peers, 0)] == [2, 3]
    assert asha().hopeless(peers, 4) == []
    assert [t.number for t in asha().hopeless(peers, 2)] == [3]


def test_hyperband_compares_within_a_bracket() -> None:
    rule = Hyperband((asha(10), asha()))
    good, other_bracket = trial(7, 0.1), trial(6, 0.9, state="paused")
    good.turn, other_bracket.turn = 2, 1  # among the trials of their optimizer
    assert rule.levels(good) == (10,) and rule.levels(other_bracket) == (10, 20, 40)
    assert rule.judge(good, [other_bracket, good]) == "pause"
    same_bracket = trial(0, 0.9, state="paused")
    assert rule.judge(good, [same_bracket, other_bracket, good]) == "promote"


def test_the_median_rule_stops_what_is_worse_than_the_others_average() -> None:
    rule = Median((20,), 2, LOSS)
    others = [trial(0, 0.6, 0.4), trial(1, 0.5, 0.3)]  # means up to 20 samples: 0.5 and 0.4
    bad, good = trial(2, 0.9, 0.46), trial(2, 0.9, 0.44)
    assert rule.judge(bad, [*others, bad]) == "stop"
    assert rule.judge(good, [*others, good]) == "go"
    assert rule.judge(bad, [others[0], bad]) == "go"  # too little to compare with
    early = trial(2, 0.9)
    assert rule.judge(early, [*others, early]) == "go"


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({}, [2, 4, 8]),
        ({"space": {"warmup": {"low": 0.0, "high": 0.25}}}, [8]),
        ({"space": {"warmup": {"steps": [0, 3]}}}, [6, 12]),
        ({"space": {"warmup": 0.6}}, [10]),
        ({"space": {"warmup": 0.6}, "scheduler": {"grace_steps": None}}, []),
        ({"space": {"warmup": 0.05}}, [1, 2, 4, 8]),
        ({"space": {"warmup": 0.0}, "scheduler": {"type": "hyperband"}}, [2, 4, 8]),
        ({"space": {"warmup": 0.0}, "scheduler": {"grace_steps": None}}, [2, 4, 8]),
        ({"scheduler": {"grace_steps": 3, "reduction_factor": 3}}, [3, 9]),
    ],
)
def test_grace_is_a_share_of_the_budget_and_after_the_warmup(
    keys: dict[str, object], steps: list[int]
) -> None:
    spec = make_spec(**keys)  # 16 steps of 8 examples
    assert rung_levels(spec) == tuple(step * 8 for step in steps)


def test_no_scheduler_has_no_rungs() -> None:
    rule = build_scheduler(make_spec(scheduler={"type": "none"}))
    alone = trial(0, 0.5)
    assert rule.levels(alone) == () and rule.judge(alone, [alone]) == "go"


@pytest.mark.parametrize("size", [8, 128])
def test_rungs_come_after_a_warmup_in_steps_for_every_batch_size(size: int) -> None:
    spec = make_spec(
        space={"optimizer": ["adam"], "batch_size": [8, 128], "warmup": {"steps": [0, 100]}},
        trial=SMALL | {"steps": 20_000},
    )
    chosen = {"optimizer": "adam", "adam.lr": 1e-3, "warmup.steps": 100, "batch_size": size}
    chosen |= {"lr_schedule": "constant", "clip_norm": None}
    config = spec.resolve(chosen)
    assert rung_levels(spec)[0] >= config.warmup_steps * size


def test_with_several_objectives_no_trial_is_given_up() -> None:
    """A front that one more trial reaches can bring the others of it forward."""
    two = Results("val_loss", "min", (("optimizer_bytes", "min"),))
    rule = Asha((10,), 2, two)
    points = [(1.0, 10.0), (2.0, 9.0), (3.0, 8.0), (4.0, 7.5), (9.0, 1.0)]
    peers = [trial(number, loss, state="paused") for number, (loss, _) in enumerate(points)]
    for paused, (_, size) in zip(peers, points, strict=True):
        paused.reports[0]["optimizer_bytes"] = size
    assert rule.hopeless(peers, 1) == []
    newer = trial(5, 0.9)
    newer.reports[0]["optimizer_bytes"] = 7.0
    assert rule.ranking(0, peers)[-1] == 4
    assert rule.ranking(0, [*peers, newer]).index(4) < 4
