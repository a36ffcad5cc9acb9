"""Looks at seeds: each spends its part of the error rate, and what was said stands."""

from __future__ import annotations

import numpy as np
import pytest

from search.judging.comparing import ERROR_RATE
from search.judging.looks import AUTO_SEEDS, Judged, judge, looks_of

NOISE, DRAWS = 0.01, 300
ALLOWED = 0.05 + 2 * (0.05 * 0.95 / DRAWS) ** 0.5
SEEDS = list(range(1, 101))


def test_auto_spends_what_kim_and_demets_spend() -> None:
    looks = looks_of(["auto"])
    assert list(looks) == [3, 5, 8, 12]
    assert list(looks.values()) == pytest.approx([0.0050, 0.0058, 0.0110, 0.0182], abs=5e-5)
    assert sum(looks.values()) == pytest.approx(0.04)


def test_each_look_by_hand_spends_half_of_what_is_left() -> None:
    assert looks_of(["auto", 20, 40]) == looks_of(["auto"]) | {
        20: pytest.approx(0.005),
        40: pytest.approx(0.0025),
    }
    assert looks_of([5]) == {5: 0.04}
    assert looks_of([5, 3, 5, 10]) == {5: 0.04, 10: pytest.approx(0.005)}  # fewer add nothing
    assert looks_of([5, "auto"]) == {5: 0.04, 12: pytest.approx(0.005)}
    many = looks_of([2, *range(3, 90)])
    assert sum(many.values()) <= ERROR_RATE


def play(rng: np.random.Generator, means: list[float], noise: list[float]) -> Judged:
    """A confirmation by `auto`: after each look only the best and the undecided go on."""
    luck = rng.normal(size=AUTO_SEEDS[-1]) * 3 * NOISE
    table = (
        luck + np.array(means)[:, None] + rng.normal(size=(len(means), 12)) * [[s] for s in noise]
    )
    losses: dict[str, dict[int, float]] = {str(i): {} for i in range(len(means))}
    going, known = list(losses), None
    for look in AUTO_SEEDS:
        for name in going:
            losses[name] |= {seed: float(table[int(name), seed - 1]) for seed in SEEDS[:look]}
        known = judge(losses, SEEDS, looks_of(["auto"]))
        assert known is not None
        going = known.going_on(12, looks_of(["auto"])[12])
    assert known is not None
    return known


@pytest.mark.parametrize("noise", [[NOISE] * 4, [NOISE] * 3 + [4 * NOISE]])
def test_looking_again_and_again_claims_falsely_in_at_most_5_percent(noise: list[float]) -> None:
    rng = np.random.default_rng(5)
    false = sum(bool(play(rng, [1.0] * len(noise), noise).beaten) for _ in range(DRAWS))
    assert false / DRAWS <= ALLOWED


def test_as_good_is_said_falsely_in_at_most_5_percent_over_all_looks() -> None:
    rng = np.random.default_rng(6)
    means = [1.0, 1.0105, 1.0105, 1.0105]
    known = [play(rng, means, [NOISE / 3] * 4) for _ in range(DRAWS)]
    assert sum(bool(one.good & {"1", "2", "3"}) for one in known) / DRAWS <= ALLOWED


def test_what_was_decided_early_stands_and_costs_no_more_seeds() -> None:
    rng = np.random.default_rng(7)
    known = play(rng, [1.0, 1.05, 1.4], [NOISE] * 3)
    assert known.best == "0" and known.beaten == {"1", "2"}
    row = {v.b: v for v in known.verdicts if v.a == "0"}
    assert row["2"].seeds == 3 and row["2"].verdict == "better"
    assert [(v.a, v.b) for v in known.verdicts] == [("0", "1"), ("0", "2"), ("1", "2")]


def test_who_can_hardly_be_decided_by_the_last_look_does_not_go_on() -> None:
    noise = {1: 0.008, 2: -0.008, 3: 0.01, 4: -0.01, 5: 0.0}
    losses = {
        "best": dict.fromkeys(noise, 1.0),
        "at the margin": {seed: 1.0101 + luck for seed, luck in noise.items()},
        "beyond it": {seed: 1.028 - luck for seed, luck in noise.items()},
    }
    known = judge(losses, SEEDS, looks_of(["auto"]))
    assert known is not None and known.undecided == ["at the margin", "beyond it"]
    assert known.going_on(12, 0.018) == ["best", "beyond it"]
    assert known.going_on(5, 0.018) == []  # there is no look after it
    first = judge(losses, SEEDS, {3: 0.005})
    assert first is not None and len(first.going_on(12, 0.018)) == 3  # too early to give up


def test_who_was_as_good_stays_so_when_another_becomes_the_best() -> None:
    base = {1: 1.0, 2: 1.01, 3: 0.99}
    losses = {
        "a": base,
        "b": {seed: loss + 1e-5 * seed for seed, loss in base.items()},
        "c": {1: 1.0, 2: 1.05, 3: 0.96, 4: 0.98, 5: 0.98},
        "d": {1: 1.01, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.01},
    }
    known = judge(losses, SEEDS, looks_of(["auto"]))
    assert known is not None and known.best == "c" and {"a", "b"} <= set(known.names)
    take = known.take()
    assert take["optimizer"] == "c" and take["undecided"] == known.undecided
    assert set(take["as_good"] + take["behind"] + take["undecided"]) == {"a", "b", "d"}
    assert take["seeds_needed"].keys() == set(known.undecided)


def test_a_seed_that_one_lost_is_left_out_for_all() -> None:
    losses = {"a": {1: 1.0, 2: 9.0, 3: 1.1, 4: 1.2}, "b": {1: 2.0, 3: 2.1, 4: 2.2}}
    known = judge(losses, SEEDS, looks_of([4]))
    assert known is not None and known.seeds == 3 and known.best == "a"
    assert known.verdicts[0].difference == pytest.approx(-1.0)


def test_one_seed_or_one_contender_says_nothing() -> None:
    assert judge({"a": {1: 1.0}, "b": {1: 2.0}}, SEEDS, looks_of([2])) is None
    assert judge({"a": {1: 1.0, 2: 1.0}}, SEEDS, looks_of([2])) is None
    assert judge({}, SEEDS, looks_of([2])) is None


def test_more_is_better_where_the_mode_says_so() -> None:
    losses = {"a": {1: 1.0, 2: 1.1, 3: 1.2}, "b": {1: 2.0, 2: 2.1, 3: 2.2}}
    known = judge(losses, SEEDS, looks_of([3]), mode="max")
    assert known is not None and known.best == "b" and known.beaten == {"a"}
    assert (known.verdicts[0].a, known.verdicts[0].verdict) == ("b", "better")
    assert known.within == 0.0
