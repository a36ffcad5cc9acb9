"""Whole searches of optimizers that are one and the same claim nothing of them, and find more."""

from __future__ import annotations

import pytest
from bench_replicates import WAYS, searches

REPLICATED = WAYS["64 trials, 4 replicates"]


def test_searches_of_one_optimizer_under_four_names_call_none_behind() -> None:
    """A/A through engine, confirmation and verdict: 12 of 12, as bench_replicates finds in 60."""
    assert not any(one.claimed for one in searches(REPLICATED, 0.0, 12))


def test_a_large_difference_is_found_by_the_same_searches() -> None:
    assert sum(one.behind for one in searches(REPLICATED, 0.15, 4)) == pytest.approx(4, abs=0.4)


def test_with_one_search_of_each_their_winners_often_differ_though_they_are_the_same() -> None:
    """Why a claim about one search is none about optimizers."""
    once = list(searches(WAYS["28 trials, 4 seeds"], 0.0, 12))
    assert 3 <= sum(one.differ for one in once) <= 11
