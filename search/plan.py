"""What a spec will do, before it does it: its space as a tree, its rungs, and its cost."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from search.checks import notes
from search.describe import yaml_text
from search.dimensions import Choices, Fixed, Range
from search.scheduler import rung_levels
from search.space import baselines
from search.spec import SearchSpec
from search.verdict import smallest_difference

SEED_NOISE = 0.003  # standard deviation of the loss over seeds, a share of it: the median measured


def plan(spec: SearchSpec) -> dict[str, Any]:
    """The resolved spec, the rungs with the trials expected at each, and the cost.

    The cost is in full trainings. A rung is taken to let 1 / reduction_factor of the trials go
    on; what a search really does depends on the order in which results come.
    """
    batch, steps = spec.trial.batch_size, spec.trial.steps
    rungs, arriving, cost, before = [], float(spec.budget.trials), 0.0, 0
    for level in rung_levels(spec) if spec.scheduler.type != "none" else ():
        cost += arriving * (level / batch - before) / steps
        rungs.append({"step": level // batch, "samples": level, "trials": round(arriving, 1)})
        arriving, before = max(1.0, arriving / spec.scheduler.reduction_factor), level // batch
    cost += arriving * (steps - before) / steps
    return {
        "confirm": plan_confirm(spec),
        "spec": spec.model_dump(mode="json"),
        "rungs": [*rungs, {"step": steps, "samples": steps * batch, "trials": round(arriving, 1)}],
        "full_trainings": round(cost, 2),
        "without_early_stopping": spec.budget.trials,
        "notes": list(notes(spec)),
        "per_trial": {
            kind: getattr(spec.resources, kind) * spec.resources.workers for kind in ("cpu", "gpu")
        },
        "baselines": len(baselines(spec.space, spec.trial, spec.baselines)),
    }


def plan_confirm(spec: SearchSpec) -> dict[str, Any] | None:
    """The confirm stage: its trainings, and the difference that its seeds can show."""
    wanted = spec.confirm
    if wanted is None:
        return None
    contenders = wanted.top * (len(spec.optimizers) if wanted.per == "optimizer" else 1)
    found = smallest_difference(SEED_NOISE, contenders, wanted.seeds) if contenders > 1 else None
    return {
        "full_trainings": contenders * wanted.seeds,
        "smallest_difference": found,
        "noise": SEED_NOISE,
    }


def show_plan(spec: SearchSpec, console: Console) -> None:
    planned = plan(spec)
    console.print(yaml_text(planned["spec"]), highlight=False, markup=False)
    console.print(space_tree(spec))
    table = Table(title="rungs", title_justify="left")
    for column in ("step", "samples", "trials expected"):
        table.add_column(column, justify="right")
    for rung in planned["rungs"]:
        table.add_row(str(rung["step"]), f"{rung['samples']:,}", f"{rung['trials']:g}")
    console.print(table)
    for note in planned["notes"]:
        console.print(f"note: {note}", highlight=False)
    show_confirm(planned["confirm"], console)
    need = planned["per_trial"]
    if spec.resources.workers > 1:
        gpus = f" and {need['gpu']:g} GPUs" if need["gpu"] else ""
        console.print(
            f"each trial holds {need['cpu']:g} CPUs{gpus}: {spec.resources.workers} workers with "
            "a part of each batch"
        )
    console.print(
        f"{spec.budget.trials} trials, {planned['baselines']} of them published defaults: about "
        f"{planned['full_trainings']:.1f} full trainings ({spec.trial.steps} steps of "
        f"{spec.trial.batch_size} examples each) instead of {spec.budget.trials}"
    )


def show_confirm(planned: dict[str, Any] | None, console: Console) -> None:
    if planned is None:
        console.print("no confirm stage: the report will give no verdict between optimizers")
        return
    text = f"confirm: {planned['full_trainings']} full trainings on fresh seeds, beside the budget"
    if found := planned["smallest_difference"]:
        text += (
            f"; they show differences of {found:.1%} of the loss and more (4 times in 5, where "
            f"the loss varies by {planned['noise']:.1%} from seed to seed, as on digits)"
        )
    console.print(text)


def space_tree(spec: SearchSpec) -> Tree:
    """The conditional space: each optimizer with its own knobs, then what all share."""
    tree = Tree("space")
    optimizers = tree.add("optimizer")
    for name, knobs in spec.space.optimizer.items():
        branch = optimizers.add(name)
        for knob, dimension in knobs.items():
            branch.add(f"{knob}: {_shown(dimension)}")
    for name, dimension in spec.space.shared():
        tree.add(f"{name}: {_shown(dimension)}")
    return tree


def _shown(dimension: Range | Choices | Fixed) -> str:
    if isinstance(dimension, Fixed):
        return f"{dimension.value} (fixed)"
    if isinstance(dimension, Choices):
        return " | ".join("null" if v is None else str(v) for v in dimension.values)
    how = ""
    if dimension.log:
        how = ", log"
    elif dimension.log_from_one:
        how = ", log in 1 - value"
    elif dimension.step is not None:
        how = f", steps of {dimension.step:g}"
    return f"{dimension.low:g} ... {dimension.high:g}{how}"
