"""Which of several contenders is better, and how sure that is: statistics of paired seeds.

Every contender is trained on the same seeds, so a seed's luck is common to all and drops out of
the differences. A contender's losses are modelled as its mean, plus the seed's effect, plus noise
(a randomized block design; Montgomery, Design and Analysis of Experiments, chapter 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from search.judging.variances import Table, Variances

Word = Literal["better", "worse", "as good", "undecided"]
MARGIN = 0.01  # of the best mean loss: less than this is not worth a claim
ERROR_RATE = 0.05  # of all claims of a comparison together
# The test of variances is sometimes wrong; claims spend only this share of the error rate, which
# keeps the whole within it (simulated in tests/search/judging/test_comparing.py).
CLAIMS_SHARE = 0.5


class Verdict(NamedTuple):
    """`difference` is the mean over seeds of a's loss minus b's; a is `verdict` than b.

    With "as good", a is the best and b was seen to be worse than it by no more than the margin.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    margin: float  # in units of the loss, as is the scale
    scale: float  # of which margins and differences are shares
    verdict: Word
    seeds: int  # that both were judged on
    variance: float  # of the difference from seed to seed
    df: float  # degrees of freedom of this variance

    @property
    def claims(self) -> bool:
        """Whether it says that one is better than the other."""
        return self.verdict in ("better", "worse")

    def json(self) -> dict[str, Any]:
        content = self._asdict()
        del content["variance"], content["df"]
        return content | {"interval": [content.pop("low"), content.pop("high")]}


def compare(
    losses: Mapping[str, Sequence[float]],
    margin: float = MARGIN,
    mode: str = "min",
    error_rate: float = ERROR_RATE,
    scale: float | None = None,
    among: int | None = None,
    overlap: float = 0.0,
) -> list[Verdict]:
    """The verdict on every pair of contenders, the best's first.

    `losses` holds each contender's values over the same seeds, in the same order. `margin` is a
    share of `scale`, which is the best contender's mean unless given. `among` is how many
    contenders there were, if some are not compared any more. `overlap` is above zero
    where each seed has its own split of the same examples: test examples to those trained on
    (Nadeau & Bengio 2003).

    - *better* and *worse* need an interval that lies beyond the margin. The intervals hold for
      all pairs at once: the best is chosen by the same numbers, so correcting for the
      comparisons with the best alone would claim too much.
    - *as good*: no worse than any other by more than the margin (`regrets`).

    Each of the two kinds is wrong in at most `error_rate` of all comparisons.

    Raises:
        ValueError: fewer than two contenders, or not the same number >= 2 of seeds for all.
    """
    sign = 1 if mode == "min" else -1
    names = sorted(losses, key=lambda name: sign * float(np.mean(losses[name])))
    lengths = {len(values) for values in losses.values()}
    if len(names) < 2 or len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(f"need two contenders on the same two seeds or more, got {dict(losses)}")
    table = sign * np.array([losses[name] for name in names], dtype=float)
    scale = abs(float(table[0].mean())) if scale is None else scale
    wide, every = margin * scale, among or len(names)
    good = regrets(table, error_rate, every, overlap).max(1) <= wide
    variances, verdicts = Variances(table), []
    for (i, j), (low, high) in intervals(variances, wide, error_rate, every, overlap).items():
        word: Word = "undecided"
        if high < -wide or low > wide:
            word = "better" if high < 0 else "worse"
        elif i == 0 and good[j]:
            word = "as good"
        middle = sign * float((table[i] - table[j]).mean())
        low, high = sorted((sign * low, sign * high))
        seeds, (variance, df) = table.shape[1], variances.of_pair(i, j)
        pair = names[i], names[j]
        verdicts.append(Verdict(*pair, middle, low, high, wide, scale, word, seeds, variance, df))
    return verdicts


def intervals(
    variances: Variances, margin: float, error_rate: float, among: int, overlap: float
) -> dict[tuple[int, int], tuple[float, float]]:
    """Of the mean difference of each pair, by the places of the two; all hold at once.

    A pair that Bonferroni's interval does not tell apart may still be told apart by Holm's (1979)
    stepping down: then its interval ends just beyond the margin (Guilbaud 2008).
    """
    table, rate = variances.table, claims_rate(error_rate, among)
    pairs = among * (among - 1) // 2
    found, tests = {}, list[tuple[float, float, tuple[int, int]]]()
    for i, j in combinations(range(len(table)), 2):
        mean = float((table[i] - table[j]).mean())
        variance, df = variances.of_pair(i, j)
        error = math.sqrt(variance * (1 / table.shape[1] + overlap))
        half = students_t(1 - rate / (2 * pairs), df) * error
        found[i, j] = mean - half, mean + half
        beyond = abs(mean) - margin
        tests.append((tail(beyond / error, df) if error else float(beyond <= 0), mean, (i, j)))
    for step, (chance, mean, pair) in enumerate(sorted(tests)):
        if 2 * chance > rate / (pairs - step):
            break
        low, high = found[pair]
        least = math.nextafter(margin, math.inf)
        found[pair] = (low, min(high, -least)) if mean < 0 else (max(low, least), high)
    return found


def regrets(table: Table, error_rate: float, among: int, overlap: float = 0.0) -> Table:
    """The most that each contender is worse than each other, [contenders, contenders].

    Upper ends of one-sided paired intervals. The largest of a row, or zero, bounds how far that
    contender is behind the best. For each only the end against the true best has to hold, so all
    bounds hold at once with Bonferroni's correction for one contender less than there are,
    whatever the variances (Hsu 1981 has them for equal ones).
    """
    seeds = table.shape[1]
    differences = table[:, None] - table[None]
    errors = np.sqrt(differences.var(2, ddof=1) * (1 / seeds + overlap))
    reach = students_t(1 - error_rate / max(1, among - 1), seeds - 1)
    ends: Table = differences.mean(2) + reach * errors
    return ends


def regrets_of(
    losses: Mapping[str, Sequence[float]],
    mode: str,
    error_rate: float,
    among: int,
    overlap: float = 0.0,
) -> dict[tuple[str, str], float]:
    """`regrets` by the names of the contender and the other."""
    sign = 1 if mode == "min" else -1
    table = sign * np.array(list(losses.values()), dtype=float)
    ends = regrets(table, error_rate, among, overlap)
    return {(a, b): float(ends[i, j]) for i, a in enumerate(losses) for j, b in enumerate(losses)}


def claims_rate(error_rate: float, contenders: int) -> float:
    """What is left of an error rate for claims, where variances may be pooled."""
    return error_rate * (CLAIMS_SHARE if contenders > 2 else 1)


def critical(contenders: int, df: float, error_rate: float = ERROR_RATE) -> float:
    """Standard errors on each side of a difference, for all pairs at once (Bonferroni)."""
    pairs = contenders * (contenders - 1) // 2
    return students_t(1 - claims_rate(error_rate, contenders) / (2 * pairs), df)


def mean_interval(values: Sequence[float], error_rate: float = ERROR_RATE) -> tuple[float, float]:
    """Student's interval of one contender's mean over seeds; it says nothing about differences."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = students_t(1 - error_rate / 2, len(values) - 1) * error
    mean = float(np.mean(values))
    return mean - half, mean + half


@lru_cache(maxsize=4096)
def students_t(share: float, df: float) -> float:
    """What Student's t stays under with this probability."""
    from scipy import special  # takes a while, and a search has its report when it ends

    return float(special.stdtrit(df, share))


def tail(t: float, df: float) -> float:
    """The probability that Student's t is above this."""
    from scipy import special

    return float(special.stdtr(df, -t))
