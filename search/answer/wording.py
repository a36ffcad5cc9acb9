"""The answer in plain sentences, made from the numbers of the report."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import PurePath
from typing import Any

from search.answer.verdict import NOT_SHOWN
from search.engine.asha import LEAST_WORTH

UNEQUAL = 2  # times as many trials for one optimizer as for another: too unlike to compare
MANY = 3  # more than so many are named together, without an interval for each


def answer(content: dict[str, Any]) -> str:
    """The verdict in one sentence, with its budget and data."""
    if content["verdicts"]:
        return f"{_scope(content)}: {_verdict(content, content['verdicts'])}"
    tops = {name: row["best"] for name, row in content["optimizers"].items() if row["best"]}
    if not tops:
        return "No trial is complete yet, so there is nothing to compare."
    metric, mode = content["objective"]["metric"], content["objective"]["mode"]
    first = (min if mode == "min" else max)(tops, key=lambda name: tops[name][metric])
    return (
        f"The best found so far is {first} with a {metric} of {tops[first][metric]:.4f}, but no "
        "verdict between optimizers: each number is the best of many tries with one seed. "
        "Confirming the winners on fresh seeds gives one."
    )


def sentence_at_equal_time(content: dict[str, Any]) -> str | None:
    """The same at equal training time."""
    timed = content["equal_time"]
    if not timed["verdicts"]:
        return None
    return (
        f"At equal training time ({timed['seconds']:.1f} s, in which the fastest finishes its "
        f"budget): {_verdict(content, timed['verdicts'])}"
    )


def _verdict(content: dict[str, Any], verdicts: list[dict[str, Any]]) -> str:
    """What the comparisons with the best say; it is `a` of the first."""
    best = verdicts[0]["a"]
    mine = [v for v in verdicts if v["a"] == best]
    beaten = [v for v in mine if v["verdict"] == "better"]
    tied = [v["b"] for v in mine if v["verdict"] == NOT_SHOWN]
    everyone = listed([best, *tied])
    if not beaten:
        return f"no difference between {everyone} is shown at this budget."
    shares = listed([f"{v['b']} ({interval(content, v)})" for v in beaten])
    if len(beaten) > MANY:
        shares = f"{listed([v['b'] for v in beaten])} ({span(content, beaten)})"
    rest = f"; between {everyone} no difference is shown at this budget" if tied else ""
    return f"{best} is better than {shares}{rest}."


def how_sure(content: dict[str, Any]) -> str:
    """What the intervals promise, what they cover, and which differences they could not show."""
    said = (
        f"{100 * content['confidence']:.0f} % that all intervals hold at once; a claim needs an "
        f"interval beyond {100 * content['margin']:g} % of the loss. They cover the luck of "
        "seeds, not of the data, the model or the ranges that were searched."
    )
    if not content["verdicts"]:
        return said
    shares = [
        100 * ((v["interval"][1] - v["interval"][0]) / 2 + v["margin"]) / scale_of(content, v)
        for v in content["verdicts"]
        if v["a"] == content["verdicts"][0]["a"]
    ]
    low, high = (f"{share:.1f}" for share in (min(shares), max(shares)))
    least = low if low == high else f"{low} to {high}"
    return f"{said} With these seeds, a claim took a measured difference of more than {least} %."


def interval(content: dict[str, Any], verdict: dict[str, Any]) -> str:
    """How much worse b's loss is than a's, in percent of the best mean loss."""
    scale = 100 / scale_of(content, verdict)
    low, high = sorted(abs(end) * scale for end in verdict["interval"])
    metric = content["objective"]["confirmed_on"].replace("_", " ")
    side = "higher" if content["objective"]["mode"] == "min" else "lower"
    middle = abs(verdict["difference"]) * scale
    return f"{metric} {middle:.1f} % {side}, interval {low:.1f} to {high:.1f} %"


def span(content: dict[str, Any], verdicts: list[dict[str, Any]]) -> str:
    """The least and the greatest of several differences, in percent of the best mean loss."""
    shares = [abs(v["difference"]) * 100 / scale_of(content, v) for v in verdicts]
    metric = content["objective"]["confirmed_on"].replace("_", " ")
    side = "higher" if content["objective"]["mode"] == "min" else "lower"
    return f"{metric} {min(shares):.1f} to {max(shares):.1f} % {side}"


def scale_of(content: dict[str, Any], verdict: dict[str, Any]) -> float:
    """The best contender's mean, of which margins and differences are shares."""
    return float(verdict["margin"] / content["margin"]) if content["margin"] else 1.0


def _scope(content: dict[str, Any]) -> str:
    budget, data = content["budget"], content["data"]
    article = "an" if data["model"]["type"] == "mlp" else "a"
    return (
        f"With {budget['steps']} steps of {budget['batch_size']} examples for {article} "
        f"{data['model']['type']} on {data_name(data['dataset'])}, over "
        f"{len(content['seeds']['judged'])} fresh seeds"
    )


def data_name(dataset: dict[str, Any]) -> str:
    """What people call a data set: its name, its folder or file, or its type."""
    path = dataset.get("path")
    return str(dataset.get("name") or (path and PurePath(path).name) or dataset["type"])


def told(mapping: dict[str, Any], parameters: int | None = None) -> str:
    """A part of the spec in one line: its type, and what was set of it."""
    knobs = [f"{k} {v}" for k, v in mapping.items() if k != "type" and v not in (None, False)]
    knobs += [f"{parameters:,} parameters"] if parameters else []
    return f"{mapping['type']} ({', '.join(knobs)})" if knobs else str(mapping["type"])


def warnings_of(content: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the answer."""
    found = []
    for name, row in content["optimizers"].items():
        rate = row["learning_rate"]
        if rate["edge"]:
            bound = rate["range"][0 if rate["edge"] == "low" else 1]
            found.append(
                f"{name}'s best learning rate, {rate['best']:.2g}, lies at the {rate['edge']} end "
                f"of its range ({bound:g}): the true best may lie beyond it. Widen the range."
            )
        if not row["complete"]:
            found.append(f"{name} has no complete trial, so nothing can be said about it.")
    found += [*_effort(content), *_early_stopping(content["rungs"])]
    for why, count in content["quality_errors"].items():
        found.append(f"The samples of {count} trials could not be measured: {why}.")
    for name in content["unstable"]:
        found.append(f"{name} did not complete all its confirm trials, so it is not judged.")
    return found


def _effort(content: dict[str, Any]) -> Iterator[str]:
    """That a verdict favours some optimizers, which were tuned with far more trials."""
    trials = {n: row["trials"] for n, row in content["optimizers"].items() if row["confirmed"]}
    if not content["verdicts"] or not trials:
        return
    most, least = max(trials, key=trials.__getitem__), min(trials, key=trials.__getitem__)
    if trials[most] >= UNEQUAL * trials[least]:
        yield (
            f"{most} was tuned with {trials[most]} trials and {least} with {trials[least]}, so "
            "the verdict is about what was found for each, not about what each can reach. "
            "allocation: equal gives all the same."
        )


def _early_stopping(rungs: list[dict[str, Any]]) -> Iterator[str]:
    """What to know of rungs that may have held back the wrong trials, or that held back none."""
    for rung, above in zip_longest(rungs, rungs[1:]):
        rho, at = rung["correlation"], f"{rung['samples']:,} samples"
        agree = f"ranks agree with the final ones with a correlation of {rho or 0:.2f}"
        lucky = rung["best_rank"] > rung["kept"]
        if rung["overruled"]:  # up to the last such rung, which is the reason
            beyond = above["overruled"] if above else []
            if names := [name for name in rung["overruled"] if name not in beyond]:
                yield (
                    f"Early stopping was overruled up to {at}, for {listed(names)}: {agree} "
                    "there, so nobody is held back."
                )
        elif lucky or (rho is not None and rho < LEAST_WORTH):
            luck = ", and the winner was not among the share that is kept there" if lucky else ""
            yield f"Early stopping may have misled: at {at}, {agree}{luck}."


def next_steps(content: dict[str, Any]) -> list[dict[str, str]]:
    """What to run next, and why."""
    search, steps = content["search"], []
    if not content["finished"]:
        steps.append({"run": f"diffsweep resume {search}", "why": "the search is unfinished"})
    complete = [n for n, row in content["optimizers"].items() if row["complete"]]
    if len(complete) > 1 and not content["verdicts"]:
        steps.append(
            {"run": f"diffsweep confirm {search}", "why": "without it there is no verdict"}
        )
    judged = len(content["seeds"]["judged"])
    best = [v for v in content["verdicts"] if v["a"] == content["verdicts"][0]["a"]]
    if any(v["verdict"] == NOT_SHOWN for v in best):
        steps.append(
            {
                "run": f"diffsweep confirm {search} --seeds {2 * judged}",
                "why": "more seeds narrow the intervals, and only the new ones are trained",
            }
        )
    for name, row in content["optimizers"].items():
        if end := row["learning_rate"]["edge"]:
            steps.append(
                {
                    "run": f"diffsweep run SPEC with a {'lower' if end == 'low' else 'higher'} "
                    f"end of space.optimizer.{name}.lr",
                    "why": f"the best lies at the {end} end of the range",
                }
            )
    if complete:
        steps.append(
            {
                "run": f"diffsweep export {search} --to DIR",
                "why": "the best config and its weights",
            }
        )
    return steps


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
