"""Rank correlations of rungs: by hand, and that choosing who goes on does not bias them."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from support.families import family
from support.trials import trial

from search.engine.asha import Asha, Results
from search.engine.correlation import Correlation, chained, rank_correlation, ranks
from search.forecast.replay import simulate

LOSS = Results("val_loss", "min")


def test_equal_values_share_their_rank() -> None:
    assert ranks([0.3, 0.1, 0.3, 0.2]).tolist() == [2.5, 0, 2.5, 1]


def test_order_kept_turned_and_unknown() -> None:
    rising = (0.1, 0.2, 0.3, 0.4, 0.5)
    kept, turned = rank_correlation(rising, rising), rank_correlation(rising, rising[::-1])
    assert kept is not None and turned is not None
    assert kept.estimate > 0.99 and turned.estimate < -0.99 and kept.pairs == 5
    assert kept.low < kept.estimate < kept.high
    assert rank_correlation(rising, (*rising[:4], None)) is None  # too few went on
    assert rank_correlation(rising, (0.5,) * 5) is None


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_that_only_the_better_half_went_on_does_not_bias_it(correlation: float) -> None:
    draw, corrected, plain = random.Random(0), [], []
    for _ in range(200):
        earlier = tuple(draw.gauss(0, 1) for _ in range(40))
        noise = math.sqrt(1 - correlation**2)
        later = [correlation * x + noise * draw.gauss(0, 1) for x in earlier]
        middle = sorted(earlier)[20]
        seen = tuple(y if x < middle else None for x, y in zip(earlier, later, strict=True))
        found = rank_correlation(earlier, seen)
        alone = rank_correlation(
            *zip(
                *[(x, y) for x, y in zip(earlier, seen, strict=True) if y is not None], strict=True
            )
        )
        assert found is not None and alone is not None
        corrected.append(found.estimate)
        plain.append(alone.estimate)
    spearman = 6 / math.pi * math.asin(correlation / 2)  # of a normal pair
    assert abs(fmean(corrected) - spearman) < 0.07
    if correlation:
        assert fmean(plain) < spearman - 0.1  # what it would be without the correction


def halved(draw: random.Random, trials: int, rho: float) -> list[Correlation | None]:
    """The links of four rungs, each of which lets its better half go on; rho from each to each."""
    noise, links = math.sqrt(1 - rho**2), list[Correlation | None]()
    values = [draw.gauss(0, 1) for _ in range(trials)]
    for _ in range(4):
        middle = sorted(values)[len(values) // 2]
        later = [rho * x + noise * draw.gauss(0, 1) if x < middle else None for x in values]
        links.append(rank_correlation(tuple(values), tuple(later)))
        values = [value for value in later if value is not None]
    return links


@pytest.mark.parametrize("trials", [60, 120])
def test_a_chain_of_rungs_is_not_found_worse_than_it_is(trials: int) -> None:
    """Four links of 0.95 tell the end with 0.81, and the threshold is 0.7."""
    draw, worth, alone = random.Random(1), [], []
    for _ in range(300):
        links = halved(draw, trials, 0.95)
        first = chained(links)[0]
        assert first is not None
        worth.append(first)
        alone.append(math.prod(max(0.0, link.estimate) for link in links if link))
    assert sum(one < 0.7 for one in worth) < sum(one < 0.7 for one in alone) / 2
    assert abs(fmean(worth) - 0.95**4) < 0.05


def test_a_rung_that_misleads_holds_nobody_back() -> None:
    rule = Asha((10, 20), 2, LOSS, measured=True)
    # the six that went on came out of the next rung in the opposite order
    gone = [trial(n, 0.1 + 0.01 * n, 0.2 - 0.01 * n, state="paused") for n in range(6)]
    waiting = [trial(6 + n, 0.5 + n, state="paused") for n in range(6)]
    assert rule.worth([*gone, *waiting])[0] == 0 and rule.first_deciding([*gone, *waiting]) == 1
    assert rule.hopeless([*gone, *waiting], 0) == []
    newcomer = trial(12, 9.0)
    assert rule.judge(newcomer, [*gone, *waiting, newcomer]) == "promote"
    trusting = Asha((10, 20), 2, LOSS)
    assert trusting.judge(newcomer, [*gone, *waiting, newcomer]) == "pause"


def test_a_rung_that_holds_decides_and_one_that_leads_to_one_that_misleads_does_not() -> None:
    rule = Asha((10, 20, 30), 2, LOSS, measured=True)
    gone = [trial(n, 0.1 + 0.01 * n, 0.1 + 0.01 * n, state="paused") for n in range(6)]
    assert rule.worth(gone)[0] == pytest.approx(1, abs=0.01) and rule.first_deciding(gone) == 0
    turned = [
        trial(n, 0.1 + 0.01 * n, 0.1 + 0.01 * n, 0.2 - 0.01 * n, state="paused") for n in range(6)
    ]
    assert rule.worth(turned) == [0, 0, None] and rule.first_deciding(turned) == 2


def test_measured_rungs_lose_less_where_curves_cross() -> None:
    curves = family("crossing")
    regrets = {}
    for grace in ("auto", 32):
        spec = curves.spec(
            budget={"trials": 60}, scheduler={"grace_steps": grace}, sampler={"type": "random"}
        )
        spec_of = [
            spec.model_copy(update={"sampler": spec.sampler.model_copy(update={"seed": s})})
            for s in range(4)
        ]
        regrets[grace] = fmean(simulate(one, curves, 4).regret for one in spec_of)
    assert regrets["auto"] < regrets[32]
