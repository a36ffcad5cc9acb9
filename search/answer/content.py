"""The answer of a search as one JSON document, which the report page and its plots show."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

from search.answer.advice import next_steps, to_decide, warnings_of
from search.answer.describe import name as trial_name
from search.answer.insight import (
    expected_best,
    importance,
    learning_rates,
    luck_of,
    rungs,
    stability,
)
from search.answer.standing import (
    Contender,
    Standing,
    confirmed,
    standing,
)
from search.answer.wording import answer, how_sure, sentence_at_equal_time
from search.engine.analysis import by_optimizer, objective, pareto, ranked, seconds, spent
from search.engine.confirm import (
    asked_for,
    planned,
    replicates_of,
    seeds_of,
    selecting,
    selects,
    test_metric,
)
from search.engine.pareto import better
from search.history.book import Book, Trial
from search.judging.comparing import ERROR_RATE, MARGIN

PACKAGES = ("diffsweep", "torch", "ray", "optuna", "mlflow")
WINNER_METRICS = ("quality_mmd", "quality_fd", "quality_coverage")


def report_of(book: Book, margin: float = MARGIN) -> dict[str, Any]:
    """Every number of the report."""
    stood = standing(book, margin)
    spec = book.spec
    content: dict[str, Any] = {
        "search": book.id,
        "state": book.state,
        "finished": book.state == "complete",
        "objective": dict(zip(("metric", "mode"), objective(book), strict=True))
        | {"confirmed_on": test_metric(book)},
        "pareto": pareto(book),
        "data": _data(book),
        "budget": _budget(book),
        "seeds": _seeds(book, stood),
        "optimizers": _optimizers(book, stood),
        "confirm": [_confirm_trial(trial, stood) for trial in book.stage("confirm")],
        "margin": margin,
        "confidence": 1 - ERROR_RATE,
        "error_rate": ERROR_RATE,
        "replicates": replicates_of(book),
        "splits": wanted.splits if (wanted := asked_for(book)) else "one",
        "take": stood.take(),
        "verdicts": [verdict.json() for verdict in stood.verdicts],
        "equal_time": _equal_time(stood),
        "quality": {m: [v.json() for v in verdicts] for m, verdicts in stood.quality.items()},
        "quality_references": _references(book),
        "quality_errors": _quality_errors(book),
        "before": _before(book),
        "diverged": {c.name: _diverged(c) for c in stood.diverged},
        "unstable": [contender.name for contender in stood.unstable],
        "rungs": rungs(book),
        "spec": spec,
        "versions": {package: version(package) for package in PACKAGES},
    }
    content["warnings"] = warnings_of(content)
    content["answer"] = answer(content)
    content["answer_at_equal_time"] = sentence_at_equal_time(content)
    content["how_sure"] = how_sure(content)
    content["decide"] = to_decide(content)
    content["next"] = next_steps(content)
    return content


def _equal_time(stood: Standing) -> dict[str, Any]:
    timed = stood.equal_time
    if timed is None:
        return {"seconds": None, "verdicts": [], "cut": []}
    verdicts = [verdict.json() for verdict in timed.verdicts]
    return {"seconds": timed.seconds, "verdicts": verdicts, "cut": timed.cut}


def _diverged(contender: Contender) -> dict[str, int]:
    """On how many of its fresh seeds a contender diverged."""
    lost = len(contender.diverged)
    return {"seeds": lost, "of": lost + len(contender.trials) + len(contender.lost)}


def _data(book: Book) -> dict[str, Any]:
    """What was trained, and on what."""
    known = (trial.reports[-1]["parameters"] for trial in book.trials.values() if trial.reports)
    given = {key: book.spec["trial"][key] for key in ("dataset", "model", "diffusion")}
    return given | {"parameters": next(known, None)}


def _quality_errors(book: Book) -> dict[str, int]:
    """Why the quality of samples could not be measured, and in how many trials."""
    lasts = [trial.reports[-1] for trial in book.trials.values() if trial.reports]
    return dict(Counter(last["quality_error"] for last in lasts if "quality_error" in last))


def _references(book: Book) -> dict[str, float]:
    """The quality of other real examples and of noise, which every measured trial reports."""
    for trial in book.trials.values():
        last = trial.reports[-1] if trial.reports else {}
        found = {k: v for k, v in last.items() if k.endswith(("_real", "_noise"))}
        if found:
            return found
    return {}


def _before(book: Book) -> dict[str, Any] | None:
    """The first baseline, which runs in full, against the best that was found."""
    metric, trials = objective(book)[0], ranked(book)
    first = next((trial for trial in trials if trial.baseline and trial.number == 0), None)
    if first is None or len(trials) < 2:
        return None
    value, best = first.last(metric), trials[0].last(metric)
    assert value and best is not None
    name = trial_name(first)
    return {
        "name": name,
        "published": book.spec["baselines"] == "default",
        "value": value,
        "best": best,
        "gain": abs(value - best) / abs(value),
        "optimizer": first.optimizer,
        "behind_itself": _behind_itself(book, first),
    }


def _behind_itself(book: Book, first: Trial) -> float | None:
    """How much worse a trial ended than the best of its optimizer, as a share of that."""
    metric = objective(book)[0]
    value, best = first.last(metric), ranked(book, first.optimizer)[0].last(metric)
    return abs(value - best) / abs(best) if value is not None and best else None


def _budget(book: Book) -> dict[str, Any]:
    spec = book.spec
    full = spec["trial"]["steps"] * spec["trial"]["batch_size"]

    def spent(stage: str) -> dict[str, Any]:
        trials = book.stage(stage)
        return {
            "trials": len(trials),
            "full_trainings": sum(trial.samples for trial in trials) / full,
            "training_seconds": sum(seconds(trial) for trial in trials),
        }

    return {
        "trials": spec["budget"]["trials"],
        "steps": spec["trial"]["steps"],
        "batch_size": spec["trial"]["batch_size"],
        "samples": full,
        "allocation": spec["allocation"],
        "search": spent("search"),
        "confirm": spent("confirm") | {"planned": planned(book)},
        "seconds": book.seconds,
    }


def _seeds(book: Book, stood: Standing) -> dict[str, Any]:
    wanted = asked_for(book)
    return {
        "search": book.spec["trial"]["seed"],
        "sampler": book.spec["sampler"]["seed"],
        "confirm": _confirm_seeds(book),
        "selected_on": selecting(book) if wanted and selects(wanted, replicates_of(book)) else [],
        "judged": _judged(stood),
    }


def _confirm_seeds(book: Book) -> list[int]:
    """Fresh seeds that were asked for to be judged."""
    wanted = asked_for(book)
    asked = {trial.config["seed"] for trial in book.stage("confirm")}
    return [seed for seed in seeds_of(book, wanted) if seed in asked] if wanted else []


def _judged(stood: Standing) -> list[int]:
    """Seeds on which two contenders or more were compared."""
    counts = Counter(seed for contender in stood.contenders for seed in contender.trials)
    return sorted(seed for seed, count in counts.items() if count > 1 or seed in stood.seeds)


def _optimizers(book: Book, stood: Standing) -> dict[str, Any]:
    metric, (searched, mode) = test_metric(book), objective(book)
    rows = by_optimizer(book)
    bests = sorted((r["best"][searched] for r in _with_best(book, rows)), key=better(mode))
    runner_up = bests[1] if len(bests) > 1 else None
    for name, row in rows.items():
        mine = [c for c in stood.everyone if c.source.optimizer == name]
        said = [confirmed(c, metric) for c in mine]
        known = [one for one in said if one.get("mean") is not None]
        top: Trial | None = next(iter(ranked(book, name)), None)
        row |= {
            "best": row["best"] and row["best"] | _best_of(top, searched, runner_up, mode),
            "confirmed": min(known, key=lambda one: better(mode)(one["mean"]), default=None),
            "contenders": said,
            "peak_memory_bytes": max(
                (
                    t.reports[-1]["peak_memory_bytes"]
                    for t in book.stage("search")
                    if t.optimizer == name and t.reports
                ),
                default=None,
            ),
            "stopped_share": row["pruned"] / row["trials"] if row["trials"] else None,
            "learning_rate": learning_rates(book, name),
            "stability": stability(book, name),
            "expected_best": (expected := expected_best(book, name)),
            "luck": luck_of(expected),
            "importance": importance(book, name),
        }
    return rows


def _with_best(book: Book, rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of optimizers that have a best, with the objective among the best's values."""
    found = []
    for name, row in rows.items():
        if trials := ranked(book, name):
            metric = objective(book)[0]
            row["best"][metric] = trials[0].last(metric)
            found.append(row)
    return found


def _best_of(
    trial: Trial | None, metric: str, runner_up: float | None, mode: str
) -> dict[str, Any]:
    """More about an optimizer's best trial: quartiles, quality, and how soon it got there."""
    assert trial is not None
    last = trial.reports[-1]
    content = {key: last[key] for key in WINNER_METRICS if key in last}
    content |= {key: last[key] for key in last if key.startswith("val_loss")}
    return content | {
        "name": trial_name(trial),
        "seconds": seconds(trial),
        "to_runner_up": reached(trial, metric, runner_up, mode),
    }


def reached(trial: Trial, metric: str, value: float | None, mode: str) -> dict[str, Any] | None:
    """When a trial first reported a value as good: its step, and its seconds of training."""
    if value is None:
        return None
    key = better(mode)
    for report, time in zip(trial.reports, spent(trial), strict=True):
        if key(report[metric]) <= key(value):
            return {"value": value, "step": report["step"], "seconds": time}
    return None


def _confirm_trial(trial: Trial, stood: Standing) -> dict[str, Any]:
    names = {source.number: c.name for c in stood.everyone for source in c.sources}
    last = trial.reports[-1] if trial.reports else {}
    kept = {k: v for k, v in last.items() if k.startswith(("test_", "val_", "quality_"))}
    return {
        "trial": trial.number,
        "source": trial.source,
        "contender": names.get(trial.source or 0),
        "optimizer": trial.optimizer,
        "seed": trial.config["seed"],
        "steps": trial.config["steps"],
        "state": trial.shown,
        "seconds": seconds(trial),
        **kept,
    }
