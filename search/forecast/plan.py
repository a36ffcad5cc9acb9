"""What a spec will do, before it does it: its space as a tree, its rungs, and its cost."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from search.answer.describe import yaml_text
from search.engine.confirm import FINALISTS, SELECT_SEEDS, seeds_of_each, selects
from search.forecast.cost import ASSUMED, SEARCHES, forecast
from search.judging.looks import looks_of
from search.judging.power import smallest_difference
from search.spec.checks import notes
from search.spec.dimensions import Choices, Fixed, Range
from search.spec.space import baselines
from search.spec.spec import SearchSpec

AT_ONCE = 4  # trials, where nothing is known of the place
SEED_NOISE = 0.011  # standard deviation of the loss over seeds, a share of it, as measured


def plan(spec: SearchSpec, at_once: int | None = None) -> dict[str, Any]:
    """The resolved spec, the rungs with the trials expected at each, and the cost.

    The cost is in full trainings. It and the trials are those of simulated searches, with
    `at_once` trials at a time, as far as that is known.
    """
    at_once = at_once or (
        AT_ONCE if spec.resources.concurrent == "auto" else spec.resources.concurrent
    )
    expected = forecast(spec, at_once)
    return {
        "confirm": plan_confirm(spec),
        "spec": spec.model_dump(mode="json"),
        "space": space_of(spec),
        "rungs": expected.rungs,
        "full_trainings": expected.full_trainings,
        "without_early_stopping": spec.budget.trials,
        "simulation": {
            "searches": SEARCHES,
            "trials": expected.trials,
            "at_once": at_once,
            "assumes": ASSUMED,
        },
        "notes": list(notes(spec)),
        "per_trial": {
            kind: getattr(spec.resources, kind) * spec.resources.workers for kind in ("cpu", "gpu")
        },
        "baselines": len(baselines(spec.space, spec.trial, spec.baselines)),
    }


def plan_confirm(spec: SearchSpec) -> dict[str, Any] | None:
    """The confirm stage: its trainings, and the difference that its seeds can show."""
    wanted, optimizers = spec.confirm, len(spec.optimizers)
    if wanted is None:
        return None
    if spec.replicates > 1:
        trainings = spec.replicates * optimizers * seeds_of_each(wanted)
        return {
            "full_trainings": trainings,
            "at_most": trainings,
            "contenders": optimizers,
            "smallest_difference": None,  # it depends on the luck of searches, too
            "noise": SEED_NOISE,
        }
    looks = looks_of([wanted.seeds])
    contenders = wanted.top * (optimizers if wanted.per == "optimizer" else 1)
    first = FINALISTS * SELECT_SEEDS * optimizers if selects(wanted, 1) else 0
    found = None
    if contenders > 1:
        last = max(looks)
        found = smallest_difference(SEED_NOISE, contenders, last, error_rate=looks[last])
    return {
        "full_trainings": first + contenders * min(looks),
        "at_most": first + contenders * max(looks),
        "contenders": contenders,
        "smallest_difference": found,
        "noise": SEED_NOISE,
    }


def show_plan(spec: SearchSpec, planned: dict[str, Any], console: Console) -> None:
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
    if "place" in planned and (held := planned["place"]["at_once"]):
        console.print(f"{planned['place']['where']} holds {held} trials at once", highlight=False)
    simulated = planned["simulation"]
    console.print(
        f"Trials and cost are the mean of {simulated['searches']} simulated searches of "
        f"{simulated['trials']} trials, {simulated['at_once']} at once, with {ASSUMED}. Where "
        "ranks hold less, or proposals get better, more is spent.",
        highlight=False,
    )


def show_confirm(planned: dict[str, Any] | None, console: Console) -> None:
    if planned is None:
        console.print("no confirm stage: the report will give no verdict between optimizers")
        return
    few, many = planned["full_trainings"], planned["at_most"]
    count = f"{few} to {many}" if many > few else str(few)
    text = f"confirm: {count} full trainings on fresh seeds, beside the budget"
    if many > few:
        text += ", the fewer the sooner all is decided"
    if found := planned["smallest_difference"]:
        noise = f"{planned['noise']:.1%} from seed to seed, as on digits"
        text += (
            f"; they show differences of {found:.1%} of the loss and more (4 times in 5, where "
            f"the loss varies by {noise})"
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


def space_of(spec: SearchSpec) -> dict[str, Any]:
    """The same tree for programs: a list for choices, a mapping for a range, else the value."""

    def plain(dimension: Range | Choices | Fixed) -> Any:
        if isinstance(dimension, Range):
            return dimension.model_dump(exclude_defaults=True)
        return list(dimension.values) if isinstance(dimension, Choices) else dimension.value

    return {
        "optimizer": {
            name: {knob: plain(dimension) for knob, dimension in knobs.items()}
            for name, knobs in spec.space.optimizer.items()
        },
        **{name: plain(dimension) for name, dimension in spec.space.shared()},
    }


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
