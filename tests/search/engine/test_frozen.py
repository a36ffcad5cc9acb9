"""What Optuna is shown of a search with many trials."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from support.playing import ACTIONS, Played
from support.trials import made

from search.engine.frozen import BEST, SHOWN, Views, telling
from search.engine.pareto import better, layers
from search.history.book import Trial
from search.spec.space import Space

SIZES = [("val_loss", "min"), ("size", "max")]
ONE, TWO = [("val_loss", "min")], [("val_loss", "min"), ("bytes", "max")]


def ended(number: int, state: str = "complete") -> Trial:
    """A trial with a loss of its own, in no order."""
    loss = (number * 7919 % 10_007) / 10_007
    report = {"samples": 10, "val_loss": loss, "bytes": number % 5}
    return made(number, [report], state)


def test_few_trials_are_shown_as_they_are() -> None:
    trials = [ended(number) for number in range(SHOWN)]
    assert telling(trials, ONE, 0) == trials


def test_of_many_the_best_are_shown_and_a_sample_of_the_rest_in_order() -> None:
    trials = [ended(number) for number in range(3 * SHOWN)]
    shown = telling(trials, ONE, 0)
    numbers = [trial.number for trial in shown]
    assert len(shown) == SHOWN and numbers == sorted(numbers)
    best = sorted(trials, key=lambda trial: trial.reports[-1]["val_loss"])[:BEST]
    assert {trial.number for trial in best} <= set(numbers)
    rest = [n for n in numbers if n not in {trial.number for trial in best}]
    assert 0.4 < sum(n < 1.5 * SHOWN for n in rest) / len(rest) < 0.6  # old and new alike


def test_complete_trials_are_better_than_stopped_ones_and_diverged_ones_the_worst() -> None:
    trials = [ended(number, "pruned") for number in range(2 * SHOWN)]
    trials += [ended(2 * SHOWN + number) for number in range(BEST)]
    trials += [ended(3 * SHOWN + number, "diverged") for number in range(SHOWN)]
    shown = {trial.number for trial in telling(trials, ONE, 0)}
    assert set(range(2 * SHOWN, 2 * SHOWN + BEST)) <= shown


def test_those_at_work_are_all_shown() -> None:
    trials = [ended(number) for number in range(2 * SHOWN)]
    trials += [ended(2 * SHOWN + number, "running") for number in range(64)]
    shown = telling(trials, ONE, 0)
    assert [trial.number for trial in shown[-64:]] == list(range(2 * SHOWN, 2 * SHOWN + 64))
    assert len(shown) == SHOWN + 64


def test_a_further_trial_changes_little_of_what_is_shown() -> None:
    """Or a model would change from proposal to proposal by luck alone."""
    trials = [ended(number) for number in range(2 * SHOWN)]
    before = {trial.number for trial in telling(trials, ONE, 0)}
    after = {trial.number for trial in telling([*trials, ended(2 * SHOWN)], ONE, 0)}
    assert len(before - after) <= 2


def test_of_several_objectives_the_front_is_shown() -> None:
    trials = [ended(number) for number in range(2 * SHOWN)]
    points = [(t.reports[-1]["val_loss"], -t.reports[-1]["bytes"]) for t in trials]
    front = {t.number for t, depth in zip(trials, layers(points), strict=True) if depth == 0}
    assert front <= {trial.number for trial in telling(trials, TWO, 0)}


@pytest.mark.parametrize("aims", [ONE, [("val_loss", "max")], SIZES, [*SIZES, ("speed", "max")]])
@given(actions=some.lists(ACTIONS, max_size=80))
@settings(max_examples=100, deadline=None)
def test_tables_of_what_is_shown_are_kept_as_trials_change(
    aims: list[tuple[str, str]], actions: list[tuple[Any, ...]]
) -> None:
    played, views = Played(), Views(Space(), ["adam", "sgd"], "tpe", aims, 0)
    played.book.watchers.append(views.update)
    with (
        patch("search.engine.frozen.SHOWN", 6),
        patch("search.engine.frozen.BEST", 3),
        patch("search.engine.frozen.mix", lambda seed, number: number % 5),
    ):
        for action in actions:
            played.play(action)
            again = Views(Space(), ["adam", "sgd"], "tpe", aims, 0)  # as after a restart
            for trial in played.book.searched:
                again.update(trial)
            wanted = {trial.number for trial in telling(played.book.searched, aims, 0)}
            for kept in (views, again):
                assert {trial.number for trial in kept.telling()} == wanted
        for place, (metric, mode) in enumerate(aims):
            values = [
                report[metric]
                for trial in played.book.searched
                for report in trial.reports
                if math.isfinite(report.get(metric, math.nan))
            ]
            assert views.worst[place] == max(values, key=better(mode), default=None)
