"""Ladders say what their rule says of all trials, whatever happens and in whichever order."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from support.playing import ACTIONS, RUNGS, Played

from search.engine.asha import Asha, Results, agreed
from search.engine.ladder import Dealt, Held, Ladder, Plain, standings
from search.engine.scheduler import Hyperband, Median, Scheduler

LEAST = Results("val_loss", "min")
MOST = Results("val_loss", "max")
TWO = Results("val_loss", "min", (("size", "max"), ("quality_mmd", "min")))
THREE = Results("val_loss", "max", (("size", "min"), ("speed", "max")))
RULES: dict[str, Scheduler] = {
    "asha": Asha(RUNGS, 2, LEAST),
    "measured": Asha(RUNGS, 2, MOST, measured=True),
    "several results first": Asha(RUNGS, 3, LEAST, min_results=4),
    "hyperband": Hyperband((Asha(RUNGS, 2, LEAST), Asha(RUNGS[1:], 2, LEAST))),
    "no rungs": Asha((), 2, LEAST),
    "two objectives": Asha(RUNGS, 2, TWO, measured=True),
    "two objectives, hyperband": Hyperband((Asha(RUNGS, 2, TWO), Asha(RUNGS[1:], 2, TWO))),
    "three objectives": Asha(RUNGS, 3, THREE),
}


@pytest.mark.parametrize("name", RULES)
@given(actions=some.lists(ACTIONS, max_size=80))
@settings(max_examples=150, deadline=None)
def test_a_ladder_says_what_its_rule_says(name: str, actions: list[tuple[Any, ...]]) -> None:
    rule, played = RULES[name], Played()
    peers = played.book.searched
    kept = standings(rule, peers)
    assert not isinstance(kept, Plain)
    played.book.watchers.append(kept.update)
    asha, ladder = "search.engine.asha", "search.engine.ladder"
    with (
        patch(f"{asha}.MOST_PAIRS", 4),
        patch(f"{ladder}.MOST_PAIRS", 4),
        patch(f"{asha}.AGREED", 2),
    ):
        for action in actions:
            trial = played.play(action)
            if trial is not None and trial.reports:
                assert kept.judge(trial) == rule.judge(trial, peers)
            assert kept.promotable() is rule.promotable(peers)
            for to_come in (0, 2):
                lost = {trial.number for trial in kept.hopeless(to_come)}
                assert lost == {trial.number for trial in rule.hopeless(peers, to_come)}
        again = standings(rule, peers)  # as after a restart
        assert again.promotable() is rule.promotable(peers)


@pytest.mark.parametrize("results", [TWO, THREE])
@given(points=some.lists(some.tuples(some.integers(1, 9), some.integers(1, 9)), min_size=8))
@settings(max_examples=150, deadline=None)
def test_trials_of_several_objectives_stand_at_a_rung_as_its_rule_has_them(
    results: Results, points: list[tuple[int, int]]
) -> None:
    rule, played = Asha(RUNGS, 2, results), Played()
    ladder, peers = Ladder(rule), played.book.searched
    played.book.watchers.append(ladder.update)
    with patch("search.engine.asha.AGREED", 2):
        for _ in points:
            played.play(("ask",))
        for number, (loss, size) in reversed(list(enumerate(points))):
            played.play(("report", number, 10, loss / 10, size))
            trial, again = peers[number], Ladder(rule)  # as after a restart, too
            for peer in peers:
                again.update(peer)
            for kept in (ladder, again):
                assert kept.judge(trial) == rule.judge(trial, peers)
                if len(kept.rungs[0].entered) > 1:  # it could go on
                    ranking = [key[2] for key in kept.rungs[0].entered]
                    assert ranking == rule.ranking(0, peers)
            played.play(("pause", number))


@given(actions=some.lists(ACTIONS, max_size=60))
@settings(max_examples=100, deadline=None)
def test_the_trial_held_first_got_furthest_and_is_the_best_of_those(
    actions: list[tuple[Any, ...]],
) -> None:
    played = Played()
    held = Held(played.book.trials, "val_loss", "min")
    played.book.watchers.append(held.update)
    for action in actions:
        played.play(action)
        for name in ("adam", "sgd"):
            paused = [
                trial
                for trial in played.book.of.get((name, 0), [])
                if trial.state == "paused" and trial.last("val_loss") is not None
            ]
            paused.sort(key=lambda t: (-t.samples, t.reports[-1]["val_loss"], t.number))
            assert held.first((name, 0), 2) == paused[:2]


def test_each_rule_gets_the_standings_that_keep_it() -> None:
    assert isinstance(standings(RULES["asha"], []), Ladder)
    assert isinstance(standings(RULES["hyperband"], []), Dealt)
    assert isinstance(standings(Median(RUNGS, 3, LEAST), []), Plain)


def test_fronts_are_made_of_nearly_all_trials_and_seldom_anew() -> None:
    made = [agreed(count) for count in range(100_000)]
    assert made[:32] == list(range(32))  # of few, for each
    assert all(count - of <= count / 16 for count, of in enumerate(made))
    assert len(set(made)) < 250 and made == sorted(made)
