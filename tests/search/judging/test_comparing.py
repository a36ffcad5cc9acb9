"""The statistics of a verdict: seldom wrong where there is nothing, right where there is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from support.specs import make_config

from search.judging.comparing import compare, critical, mean_interval
from search.judging.power import POWER, chance, further_seeds, smallest_difference
from search.judging.variances import alike_in_variance, equal_variances, residual_variance
from trainable.data.loading import load_data
from trainable.report import report
from trainable.train import TrainState, train_until

LOSS, NOISE = 0.18, 0.0018  # measured on digits: 1 % from seed to seed
LOUD = 0.0081  # 4.5 times as much; SGD's is at least twice as much
DRAWS = 1000
ALLOWED = 0.05 + 2 * (0.05 * 0.95 / DRAWS) ** 0.5  # a simulated rate of 5 % can reach this


def draws(
    noise: list[float], seeds: int, shifts: tuple[float, ...] = ()
) -> list[dict[str, list[float]]]:
    """Simulated confirmations: contenders of equal means, but for shifts as shares of the loss."""
    rng = np.random.default_rng(7)
    means = LOSS * (1 + np.array([*shifts, *[0.0] * (len(noise) - len(shifts))]))
    luck = rng.normal(size=(DRAWS, 1, seeds)) * 0.006  # of a seed, for all
    tables = (
        means[:, None]
        + luck
        + rng.normal(size=(DRAWS, len(noise), seeds)) * np.array(noise).reshape(-1, 1)
    )
    return [{str(i): list(row) for i, row in enumerate(table)} for table in tables]


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    "noise",
    [
        [NOISE] * 2,
        [NOISE] * 4,
        [NOISE] * 8,
        [NOISE] * 3 + [LOUD],
        [NOISE] * 2 + [LOUD] * 2,
        [NOISE] * 5 + [LOUD],
        [NOISE, 1.5 * NOISE, 2 * NOISE, 3 * NOISE],
        [NOISE] * 9 + [LOUD],
    ],
    ids=["two", "four", "eight", "one-loud", "two-loud", "loud-of-6", "each-louder", "loud-of-10"],
)
def test_ties_are_declared_different_in_at_most_5_percent(noise: list[float], seeds: int) -> None:
    tables = draws(noise, seeds)
    false = sum(any(verdict.claims for verdict in compare(losses, 0.0)) for losses in tables)
    assert false / DRAWS <= ALLOWED


def test_a_difference_of_just_the_margin_is_seldom_claimed_to_be_more() -> None:
    claims = 0
    for losses in draws([NOISE] * 4, 5, shifts=(0.01,)):
        claims += any(v.claims for v in compare(losses, 0.0099) if v.b == "0")
    assert claims / DRAWS <= ALLOWED


def test_intervals_hold_for_all_pairs_at_once() -> None:
    shifts = (0.0, 0.05, 0.1, 0.15)
    wrong = 0
    for losses in draws([NOISE] * 3 + [LOUD], 5, shifts):
        for v in compare(losses):
            truth = LOSS * (shifts[int(v.a)] - shifts[int(v.b)])
            if not v.low <= truth <= v.high:
                wrong += 1
                break
    assert wrong / DRAWS <= ALLOWED


@pytest.mark.parametrize(("contenders", "seeds"), [(2, 5), (4, 3), (4, 5)])
def test_the_smallest_difference_promised_is_found_as_often_as_promised(
    contenders: int, seeds: int
) -> None:
    promised = smallest_difference(NOISE / LOSS, contenders, seeds)
    shifts = (promised,)
    found = 0
    for losses in draws([NOISE] * contenders, seeds, shifts):
        mine = next(v for v in compare(losses) if {v.a, v.b} == {"0", "1"})
        found += mine.verdict == ("worse" if mine.a == "0" else "better")
    assert 0.76 <= found / DRAWS <= 0.87  # with few seeds, stepping down finds a few more


def test_sgd_far_behind_is_found_although_it_is_loud() -> None:
    found = 0
    for losses in draws([NOISE] * 3 + [LOUD], 5, shifts=(0, 0, 0, 0.17)):
        found += all(v.verdict == "better" for v in compare(losses) if v.b == "3")
    assert found / DRAWS >= POWER


def test_correcting_only_for_the_comparisons_with_the_best_would_claim_too_much() -> None:
    """Why all pairs count: the best is chosen by the very numbers that are compared."""
    false = 0
    for losses in draws([NOISE] * 8, 5):
        table = np.array(list(losses.values()))
        variance, df = residual_variance(table)
        means = np.sort(table.mean(1))
        bound = stats.t.ppf(1 - 0.05 / (2 * 7), df) * (2 * variance / 5) ** 0.5
        false += means[-1] - means[0] > bound
    assert false / DRAWS > 0.1


def test_splits_of_the_same_examples_count_for_less_than_seeds() -> None:
    """Nadeau & Bengio 2003: the variance of a mean is 1/n + test/train of that of one."""
    losses = {"a": [0.10, 0.12, 0.11, 0.13], "b": [0.15, 0.16, 0.18, 0.17]}
    plain, split = compare(losses)[0], compare(losses, overlap=3 / 14)[0]
    wider = ((1 / 4 + 3 / 14) / (1 / 4)) ** 0.5
    assert split.high - split.low == pytest.approx(wider * (plain.high - plain.low))
    assert split.difference == plain.difference


def test_seeds_that_are_hard_for_all_do_not_widen_the_interval() -> None:
    luck = np.array([0.0, 0.1, 0.2])
    quiet = {"a": [0.10, 0.11, 0.12], "b": [0.20, 0.22, 0.21]}
    shifted = {name: list(np.array(values) + luck) for name, values in quiet.items()}
    assert compare(quiet)[0][2:5] == pytest.approx(compare(shifted)[0][2:5])


def test_two_contenders_give_the_paired_t_test() -> None:
    a, b = [0.10, 0.12, 0.11, 0.13], [0.15, 0.16, 0.18, 0.17]
    verdict = compare({"a": a, "b": b})[0]
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high))
    assert verdict.verdict == "better"


def test_the_variance_of_a_loud_contender_is_not_pooled() -> None:
    rng = np.random.default_rng(0)
    quiet = LOSS + rng.normal(size=(4, 8)) * NOISE
    assert equal_variances(quiet)
    quiet[3] = LOSS + rng.normal(size=8) * LOUD
    assert not equal_variances(quiet)
    assert alike_in_variance(quiet) == [0, 1, 2]
    assert alike_in_variance(quiet[:, :4]) == []  # too few seeds to sort them by


def test_a_loud_contender_does_not_hide_a_difference_between_quiet_ones() -> None:
    shifts = (0.0, 0.055)
    found = 0
    for losses in draws([NOISE] * 5 + [LOUD], 5, shifts):
        mine = next(v for v in compare(losses) if {v.a, v.b} == {"0", "1"})
        found += mine.verdict == ("better" if mine.a == "0" else "worse")
    assert found / DRAWS >= 0.8


def test_the_best_comes_first_and_every_pair_is_judged() -> None:
    losses = {"c": [3.0, 3.1], "a": [1.0, 1.1], "b": [2.0, 2.1]}
    pairs = [(v.a, v.b) for v in compare(losses)]
    assert pairs == list(combinations("abc", 2))
    assert [(v.a, v.b) for v in compare(losses, mode="max")] == list(combinations("cba", 2))
    assert all(v.verdict == "better" for v in compare(losses, mode="max"))


def test_equal_losses_show_no_difference() -> None:
    verdict = compare({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})[0]
    assert (verdict.difference, verdict.low, verdict.high) == (0, 0, 0)
    assert verdict.verdict == "as good"


def test_the_margin_decides_between_a_difference_and_a_claim() -> None:
    losses = {"a": [1.00, 1.01, 0.99], "b": [1.02, 1.031, 1.009]}
    assert compare(losses, margin=0.0)[0].verdict == "better"
    assert not compare(losses, margin=0.02)[0].claims


@pytest.mark.parametrize("losses", [{"a": [1.0, 2.0]}, {"a": [1.0], "b": [2.0]}])
def test_too_little_to_compare_is_refused(losses: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="need two contenders"):
        compare(losses)


def test_a_mean_over_seeds_has_students_interval() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert critical(2, 4) == pytest.approx(2.776, abs=1e-3)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_heavy_tails_do_not_make_more_false_claims(seeds: int) -> None:
    rng = np.random.default_rng(11)
    tables = LOSS + NOISE * rng.standard_t(3, (DRAWS, 4, seeds)) / 3**0.5
    named = [{str(i): list(row) for i, row in enumerate(table)} for table in tables]
    false = sum(any(v.claims for v in compare(losses, 0.0)) for losses in named)
    assert false / DRAWS <= ALLOWED


@pytest.mark.parametrize("noise", [[NOISE] * 4, [NOISE] * 3 + [LOUD], [NOISE] * 2])
@pytest.mark.parametrize("worse", [0.0, 0.0101])
def test_as_good_is_said_falsely_in_at_most_5_percent(noise: list[float], worse: float) -> None:
    """Of a contender that is worse by just more than the margin, whoever is best otherwise."""
    quiet = [sd / 4 for sd in noise]  # where it could be said at all
    shifts = (*[worse] * (len(noise) - 1), 0.0)
    wrong = said = 0
    for losses in draws(quiet, 8, shifts):
        good = {v.b for v in compare(losses) if v.verdict == "as good"}
        said += len(good) > 0
        wrong += any(shifts[int(name)] > 0.01 for name in good)
    assert wrong / DRAWS <= ALLOWED
    assert said / DRAWS > 0.5 or worse  # and where all are, it is said


def test_as_good_follows_the_formula_by_hand() -> None:
    """max over the others of mean difference + t(1 - 0.05/2, 2) * sd / sqrt(3)."""
    losses = {"a": [1.000, 1.001, 0.999], "b": [1.004, 1.003, 1.002], "c": [1.2, 1.2, 1.2]}
    first, *_ = compare(losses)
    against_a = np.array(losses["b"]) - np.array(losses["a"])
    bound = against_a.mean() + stats.t.ppf(1 - 0.05 / 2, 2) * against_a.std(ddof=1) / 3**0.5
    assert (first.a, first.b) == ("a", "b") and bound == pytest.approx(0.0055, abs=1e-4)
    assert first.verdict == "as good" and compare(losses, 0.0054)[0].verdict == "undecided"


def test_a_margin_of_nothing_and_a_best_of_nothing_still_have_shares_and_words() -> None:
    losses = {"a": [1.0, 1.01, 0.99], "b": [1.06, 1.071, 1.049]}
    verdict = compare(losses, margin=0.0)[0]
    assert verdict.difference / verdict.scale == pytest.approx(-0.06)
    zero = compare({"a": [0.0, 0.1, -0.1], "b": [1.0, 1.1, 0.9]})[0]
    assert (zero.scale, zero.margin, zero.verdict) == (0.0, 0.0, "better")
    given = compare({"a": [0.0, 0.0, 0.0], "b": [0.009, 0.009, 0.009]}, scale=1.0)[0]
    assert (given.margin, given.verdict) == (0.01, "as good")


def test_stepping_down_claims_more_but_never_beyond_its_interval() -> None:
    """What Holm's step claims has an interval that ends at the margin, not within it."""
    more = 0
    for losses in draws([NOISE] * 4, 3, (0.0, 0.06, 0.06, 0.06)):
        for v in compare(losses):
            assert v.claims == (v.low > v.margin or v.high < -v.margin)
            more += v.claims and min(abs(v.low), abs(v.high)) < v.margin * 1.0001
    assert more > 0


def test_further_seeds_are_the_fewest_that_give_the_chance_to_decide() -> None:
    losses = {
        "a": [1.00, 1.01, 0.99, 1.0],
        "b": [1.03, 1.02, 1.03, 1.05],
        "c": [2.0, 2.1, 2.0, 2.1],
    }
    verdict = compare(losses)[0]
    assert (verdict.b, verdict.verdict) == ("b", "undecided")
    more = further_seeds(verdict, 3, 0.05)
    assert more is not None and 1 < more < 30
    chances = [chance(verdict, verdict.seeds + n, 3, 0.05) for n in (more - 1, more)]
    assert chances[0] < POWER <= chances[1]
    at_the_margin = verdict._replace(difference=-verdict.margin * 1.001)
    assert further_seeds(at_the_margin, 3, 0.05) is None
    assert further_seeds(verdict._replace(variance=0.0), 3, 0.05) == 1


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_real_trainings_of_one_config_are_declared_different_in_at_most_5_percent(
    margin: float, same_config: list[float]
) -> None:
    """A/A: contenders that are all the same, with the noise that real trainings have."""
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(DRAWS):
        drawn = rng.permutation(same_config)[:20].reshape(4, 5)
        verdicts = compare({str(i): list(row) for i, row in enumerate(drawn)}, margin)
        false += any(verdict.claims for verdict in verdicts)
    assert false / DRAWS <= ALLOWED


@pytest.fixture(scope="module")
def same_config() -> list[float]:
    """Final losses of one config trained with 40 seeds."""
    data = load_data(make_config().dataset)
    finals = []
    for seed in range(40):
        state = TrainState(make_config(seed=seed, steps=24), data)
        train_until(state, state.config.samples)
        finals.append(report(state)["val_loss"])
    return finals
