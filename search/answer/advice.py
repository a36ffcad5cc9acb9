"""What a reader should know before believing the answer, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search.answer.wording import duration, listed
from search.engine.asha import LEAST_WORTH

UNEQUAL = 2  # times as much spent on one optimizer as on another: too unlike to compare


def warnings_of(content: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the answer."""
    found = []
    for name, row in content["optimizers"].items():
        rate = row["learning_rate"]
        if rate["edge"]:
            most = "smallest" if rate["edge"] == "low" else "largest"
            low, high = rate["range"]
            found.append(
                f"{name}'s best learning rate, {rate['best']:.2g}, is the {most} of the "
                f"{rate['tried']} that were tried in {low:g} to {high:g}: the true best may lie "
                "beyond it."
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
    """That a verdict favours some optimizers, whose tuning cost far more."""
    rows = {name: row for name, row in content["optimizers"].items() if row["confirmed"]}
    if not content["verdicts"] or not rows:
        return
    spent = {name: row["samples"] / content["budget"]["samples"] for name, row in rows.items()}
    most, least = max(spent, key=spent.__getitem__), min(spent, key=spent.__getitem__)
    if spent[most] >= UNEQUAL * spent[least]:
        first, second = (
            f"{spent[name]:.1f} full trainings ({rows[name]['complete']} complete)"
            for name in (most, least)
        )
        yield (
            f"{most} was tuned with the compute of {first}, and {least} with that of {second}. So "
            "the verdict is about what was found for each, not about what each can reach."
        )


def _early_stopping(rungs: list[dict[str, Any]]) -> Iterator[str]:
    """What to know of rungs that may have held back the wrong trials, or that held back none."""
    for place, rung in enumerate(rungs):
        rho, at = rung["correlation"], f"{rung['samples']:,} samples"
        whose = f", for {listed(rung['optimizers'])}" if rung["optimizers"] else ""
        agree = f"ranks agree with the final ones with a correlation of {rho or 0:.2f}"
        lucky = rung["best_rank"] is not None and rung["best_rank"] > rung["kept"]
        above = rungs[place + 1] if place + 1 < len(rungs) else None
        same = above is not None and above["optimizers"] == rung["optimizers"]
        if rung["overruled"]:  # up to the last such rung, which is the reason
            if not (same and above and above["overruled"]):
                yield (
                    f"Early stopping was overruled up to {at}{whose}: {agree} there, so nobody is "
                    "held back."
                )
        elif lucky or (rho is not None and rho < LEAST_WORTH):
            luck = ", and the winner was not among the share that is kept there" if lucky else ""
            yield f"Early stopping may have misled{whose}: at {at}, {agree}{luck}."


def next_steps(content: dict[str, Any]) -> list[dict[str, str]]:
    """What to run next, and why."""
    search, steps = content["search"], []
    if not content["finished"]:
        steps.append({"run": f"diffsweep resume {search}", "why": "the search is unfinished"})
    complete = [n for n, row in content["optimizers"].items() if row["complete"]]
    if len(complete) > 1 and not content["take"]:
        steps.append(
            {"run": f"diffsweep confirm {search}", "why": "without it there is no verdict"}
        )
    if content["decide"]:
        steps.append(content["decide"])
    for name, row in content["optimizers"].items():
        if end := row["learning_rate"]["edge"]:
            steps.append(
                {
                    "run": f"diffsweep run SPEC with a {'lower' if end == 'low' else 'higher'} "
                    f"end of space.optimizer.{name}.lr",
                    "why": f"the best is the {'smallest' if end == 'low' else 'largest'} tried",
                }
            )
    if content["take"] and content["replicates"] == 1:
        trial = content["take"]["trials"][0]
        steps.append(
            {
                "run": f"diffsweep export {search} --to DIR --trial {trial}",
                "why": f"the config to take, {content['take']['optimizer']}'s, and its weights",
            }
        )
    elif complete:
        steps.append(
            {
                "run": f"diffsweep export {search} --to DIR",
                "why": "the best config of the search and its weights",
            }
        )
    return steps


def to_decide(content: dict[str, Any]) -> dict[str, str] | None:
    """The command that decides what is undecided, and its price."""
    take = content["take"]
    needed = [n for n in take["seeds_needed"].values() if n] if take else []
    if not needed or content["replicates"] > 1:
        return None
    seeds = len(content["seeds"]["judged"]) + max(needed)
    trainings = max(needed) * (1 + len(take["undecided"]))
    row = content["optimizers"].get(take["optimizer"]) or {}
    each = (row.get("confirmed") or {}).get("seconds")
    time = f", {duration(trainings * each)} of training" if each else ""
    return {
        "run": f"diffsweep confirm {content['search']} --seeds {seeds}",
        "why": f"decides about {listed(take['undecided'])} at the differences measured so far: "
        f"about {trainings} more trainings{time}",
    }
