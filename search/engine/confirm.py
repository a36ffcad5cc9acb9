"""The confirm stage: winners train again, in full, on fresh seeds that are the same for all.

What is owed is a function of the history, so a confirmation goes on after any end. Its trials are
outside the budget, nothing stops them early, and the sampler never hears of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any

from search.engine.analysis import objective, ranked, seconds
from search.engine.pareto import better
from search.history.book import AT_WORK, ENDED, Book, Group, Trial
from search.spec.spec import Confirm

STEADY = ("constant", "inv_sqrt")  # lr_schedules that don't know where the budget ends
SELECTING = 1000  # the seeds that only select begin so far after those that are judged
SELECT_SEEDS, FINALISTS = 2, 2  # of `auto`: what decides which config of an optimizer is judged
OF_EACH_SEARCH = 2  # seeds of `auto` where there are several searches of each optimizer
Pair = tuple[Trial, int]  # a winner, and a seed


def asked_for(book: Book) -> Confirm | None:
    """The confirmation that the search's spec asks for."""
    given = book.spec.get("confirm")
    return None if given is None else Confirm.model_validate(given)


def selects(wanted: Confirm, replicates: int) -> bool:
    """Whether the best two of each optimizer compete first, on seeds that count in no verdict.

    The best of a search is the luckiest. Several searches show that luck by themselves.
    """
    once = wanted.per == "optimizer" and wanted.top == 1 and replicates == 1
    return once and wanted.seeds == "auto"


def finalists(wanted: Confirm | None, replicates: int) -> int:
    """How many trials of each search of an optimizer have to be complete."""
    if wanted is None or wanted.per == "search":
        return 1
    return FINALISTS if selects(wanted, replicates) else wanted.top


def replicates_of(book: Book) -> int:
    """Searches of each optimizer."""
    count: int = book.spec.get("replicates", 1)
    return count


def groups(book: Book, wanted: Confirm) -> list[list[Trial]]:
    """The trials that may be confirmed: the best of each search of each optimizer."""
    if wanted.per == "search":
        return [ranked(book)[: wanted.top]]
    found, most = dict[Group, list[Trial]](), finalists(wanted, replicates_of(book))
    for trial in ranked(book):
        mine = found.setdefault(trial.group, [])
        if len(mine) < most and trial.optimizer in book.spec["space"]["optimizer"]:
            mine.append(trial)
    return list(found.values())


def winners(book: Book, wanted: Confirm) -> list[Trial]:
    """The trials of the search that are to be confirmed, as far as they are known, best first."""
    known = {t.number for group in groups(book, wanted) for t in _chosen(book, wanted, group)}
    return [trial for trial in ranked(book) if trial.number in known]


def _chosen(book: Book, wanted: Confirm, group: Sequence[Trial]) -> Sequence[Trial]:
    """Those of a group that are judged: all, or the one that did better on seeds that select.

    By the objective itself, on the validation part: the test part is for the verdict alone.
    """
    if not selects(wanted, replicates_of(book)) or len(group) < 2:
        return group
    metric, mode = objective(book)
    tried = [[_of(book, trial, seed) for seed in selecting(book)] for trial in group]
    if not all(one is not None and one.state in ENDED for row in tried for one in row):
        return []
    means = [
        fmean(better(mode)(one.last(metric)) for one in row)  # type: ignore[union-attr,arg-type]
        if all(one is not None and one.state == "complete" for one in row)
        else float("inf")
        for row in tried
    ]
    return [group[means.index(min(means))]]


def _of(book: Book, winner: Trial, seed: int) -> Trial | None:
    """The confirm trial of a winner and a seed, the last one if it was tried again."""
    wanted = winner.number, seed, winner.config["steps"]
    tried = reversed(book.stage("confirm"))
    return next(
        (t for t in tried if (t.source, t.config["seed"], t.config["steps"]) == wanted), None
    )


def selecting(book: Book) -> list[int]:
    """The seeds on which the best of each optimizer compete first."""
    return _from(book, SELECTING, SELECT_SEEDS)


def seeds_of(book: Book, wanted: Confirm) -> list[int]:
    """Fresh seeds that are judged, at most: never the one that the search trained with."""
    if (several := replicates_of(book)) > 1:
        return _from(book, 0, several * seeds_of_each(wanted))
    return _from(book, 0, max(looks_for(book, wanted)))


def seeds_of_each(wanted: Confirm) -> int:
    """Seeds of the winner of each search, where an optimizer has several; no two share one."""
    return wanted.seeds if isinstance(wanted.seeds, int) else OF_EACH_SEARCH


def looks_for(book: Book, wanted: Confirm) -> dict[int, float]:
    """The error rate of each look at the seeds, by how many there are."""
    from search.judging.looks import looks_of  # numpy takes a while

    plans = book.plans if wanted.seeds in book.plans else [*book.plans, wanted.seeds]
    return looks_of(plans)


def _from(book: Book, place: int, count: int) -> list[int]:
    searched: int = book.spec["trial"]["seed"]
    return [(searched + place + n) % 2**31 for n in range(1, count + 1)]


def planned(book: Book) -> int:
    """How many confirm trials there will be, as far as is known: by `auto`, more may follow."""
    wanted = asked_for(book)
    if wanted is None:
        return 0
    if book.stage("confirm"):
        return len(book.stage("confirm")) + len(owed(book, wanted))
    searches = len(book.spec["space"]["optimizer"]) * replicates_of(book)
    each = wanted.top * min(looks_for(book, wanted))
    if selects(wanted, replicates_of(book)):
        each += FINALISTS * SELECT_SEEDS
    if replicates_of(book) > 1:
        each = seeds_of_each(wanted)
    return each * (searches if wanted.per == "optimizer" else 1)


def owed(book: Book, wanted: Confirm) -> list[Pair]:
    """Winners and seeds that were not asked for yet, or whose training was taken in an earlier
    session.

    Seed by seed, so that a confirmation cut short still has whole seeds to compare on.
    """
    asked = {
        (trial.source, trial.config["seed"], trial.config["steps"])
        for trial in book.stage("confirm")
        if not trial.taken or trial.ended_in == book.sessions
    }

    def missing(pairs: list[Pair]) -> list[Pair]:
        return [(t, seed) for t, seed in pairs if (t.number, seed, t.config["steps"]) not in asked]

    pairs = [*_selections(book, wanted), *_judgements(book, wanted)]
    if found := missing(pairs):
        return found
    through = wanted.equal_time and _through(book, pairs, wanted)
    return missing(_reruns(book, wanted)) if through else []


def _selections(book: Book, wanted: Confirm) -> list[Pair]:
    """Those that decide which config of an optimizer is judged."""
    if not selects(wanted, replicates_of(book)):
        return []
    rivals = [trial for group in groups(book, wanted) if len(group) > 1 for trial in group]
    return [(trial, seed) for seed, trial in product(selecting(book), rivals)]


def _judgements(book: Book, wanted: Confirm) -> list[Pair]:
    """Those that are judged. By `auto`, after each look only those that more seeds may decide."""
    order, going = seeds_of(book, wanted), winners(book, wanted)
    if replicates_of(book) > 1:
        each = seeds_of_each(wanted)
        return [
            (trial, seed)
            for place, trial in product(range(each), going)
            for seed in [order[trial.replicate * each + place]]
        ]
    if "auto" not in (*book.plans[:1], wanted.seeds):
        return [(trial, seed) for seed, trial in product(order[: _most(wanted)], going)]
    pairs, before = list[Pair](), 0
    for look in sorted(looks_for(book, wanted)):
        if before >= _most(wanted):
            break
        new = [(trial, seed) for seed, trial in product(order[before:look], going)]
        pairs, before = pairs + new, look
        going = _undecided(book, wanted, look) if _through(book, new, wanted) else []
        if not going:
            break
    return pairs


def _reruns(book: Book, wanted: Confirm) -> list[Pair]:
    """Winners whose learning rate had not decayed when the fastest was through: again, for as
    many steps as they take in its time, on the seeds of the first look.
    """
    order = seeds_of(book, wanted)[: min(looks_for(book, wanted))]
    stable = [trial for trial in winners(book, wanted) if not diverged(book, trial)]
    pace = dict[int, float]()  # seconds of a step
    for trial in stable:
        done = [one for seed in order if (one := _of(book, trial, seed)) and one.samples]
        if times := [seconds(one) / one.reports[-1]["step"] for one in done]:
            pace[trial.number] = fmean(times)
    if len(pace) < 2:
        return []
    time = min(pace[t.number] * t.config["steps"] for t in stable if t.number in pace)
    pairs = list[Pair]()
    for trial in stable:
        known = reruns_of(book, trial)  # what was begun with stays, whatever is measured later
        steps = known[0].config["steps"] if known else int(time / pace[trial.number])
        decays = trial.config["lr_schedule"] not in STEADY
        if known or (decays and 0 < steps < 0.99 * trial.config["steps"]):
            short = replace(trial, config=trial.config | {"steps": steps})
            pairs += [(short, seed) for seed in order]
    return pairs


def reruns_of(book: Book, winner: Trial) -> list[Trial]:
    """The confirm trials of a winner for fewer steps than its own."""
    mine = [t for t in book.stage("confirm") if t.source == winner.number]
    return [trial for trial in mine if trial.config["steps"] != winner.config["steps"]]


def _most(wanted: Confirm) -> int:
    from search.judging.looks import AUTO_SEEDS

    return wanted.seeds if isinstance(wanted.seeds, int) else AUTO_SEEDS[-1]


def _through(book: Book, pairs: Iterable[Pair], wanted: Confirm) -> bool:
    """Whether trainings have ended, and no others may come in between."""
    if any(trial.state in AT_WORK for trial in book.searched):
        return False
    if any(not _chosen(book, wanted, group) for group in groups(book, wanted)):
        return False
    ends = [_of(book, trial, seed) for trial, seed in pairs]
    return all(
        one is not None and one.state in ENDED and (not one.taken or one.ended_in == book.sessions)
        for one in ends
    )


def _undecided(book: Book, wanted: Confirm, look: int) -> list[Trial]:
    """The winners that train on more seeds after a look: the best, and who may yet be decided."""
    from search.judging.looks import judge

    everyone, looks = winners(book, wanted), looks_for(book, wanted)
    losses = {str(t.number): losses_of(book, t) for t in everyone if not diverged(book, t)}
    so_far = {n: rate for n, rate in looks.items() if n <= look}
    mode = objective(book)[1]
    how: dict[str, Any] = {"mode": mode, "among": len(everyone), "overlap": overlap_of(book)}
    known = judge(losses, seeds_of(book, wanted), so_far, **how)
    if known is None:
        return []
    if wanted.seeds == "auto":
        last = max(looks)
        names = known.going_on(last, looks[last])
    else:  # whoever asks for more by hand has hope
        names = [known.best, *known.undecided] if known.undecided else []
    return [trial for trial in everyone if str(trial.number) in names]


def confirmations(book: Book, winner: Trial) -> list[Trial]:
    """The confirm trials of a winner that count: neither selecting nor for fewer steps."""
    selected, steps = selecting(book), winner.config["steps"]
    mine = [t for t in book.stage("confirm") if t.source == winner.number]
    return [t for t in mine if t.config["seed"] not in selected and t.config["steps"] == steps]


def diverged(book: Book, winner: Trial) -> bool:
    """Whether a winner diverged on a seed that is judged."""
    return any(trial.state == "diverged" for trial in confirmations(book, winner))


def losses_of(book: Book, winner: Trial) -> dict[int, float]:
    """What is judged of a winner, by seed: its objective on the test part."""
    metric = test_metric(book)
    done = [trial for trial in confirmations(book, winner) if trial.state == "complete"]
    return {
        trial.config["seed"]: value for trial in done if (value := trial.last(metric)) is not None
    }


def overlap_of(book: Book) -> float:
    """What splits of the same examples share: test examples to those trained on, else nothing."""
    from trainable.data.splitting import TEST_TO_TRAIN

    wanted = asked_for(book)
    return TEST_TO_TRAIN if wanted is not None and wanted.splits == "each" else 0.0


def test_metric(book: Book) -> str:
    """The objective, on the test part."""
    return objective(book)[0].replace("val_", "test_", 1)


def ask_event(book: Book, winner: Trial, seed: int) -> dict[str, Any]:
    """The content of the event that asks for a confirm trial, numbered after all others."""
    config, wanted = winner.config | {"seed": seed}, asked_for(book)
    if wanted is not None and wanted.splits == "each" and seed not in selecting(book):
        config |= {"split": seed}
    content = {
        "trial": max(book.trials) + 1,
        "stage": "confirm",
        "source": winner.number,
        "chosen": winner.chosen,
        "config": config,
        "baseline": False,
        "full": True,
    }
    return content | ({"replicate": winner.replicate} if replicates_of(book) > 1 else {})
