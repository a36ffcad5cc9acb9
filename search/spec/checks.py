"""Faults of a spec that need more than one key to see."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pydantic import ValidationError

from search.history.storage import uri_fault
from search.spec.dimensions import WHOLE_NUMBERS, Choices, Knobs, Range
from search.spec.shelves import SAMPLERS, SCHEDULERS
from search.spec.space import WarmupSteps, keeps_lr
from search.spec.spec import SearchSpec
from trainable.base.faults import in_words, nearest
from trainable.base.reading import KeyPath
from trainable.base.shelf import code_fault, load, use_code
from trainable.config import FEATURE_FILES, TrialConfig
from trainable.optimizers.eight_bit import EightBit
from trainable.optimizers.shelf import OPTIMIZERS

FEWEST_TRIALS = 4  # of a search among several: with fewer, its winner is luck alone
RECORDED = "recorded:"  # before an optimizer's name in a replay: its learning rate is all of it


def check(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    """Faults that need more than one key to see: where, and what is wrong."""
    for name, knobs in spec.space.optimizer.items():
        yield from _check_optimizer(name, knobs)
    yield from _check_shared(spec)
    yield from _check_baselines(spec)
    yield from _check_sampler(spec)
    yield from _check_own_code(spec)
    yield from _check_workers(spec)
    yield from _check_objectives(spec)
    yield from _check_allocation(spec)
    yield from _check_replicates(spec)
    yield from _check_splits(spec)
    yield from _check_equal_time(spec)
    yield from _check_notify(spec)
    if spec.resources.gpu > 1 and spec.resources.gpu % 1:
        yield (
            ("resources", "gpu"),
            f"{spec.resources.gpu:g} GPUs: a fraction of one, or whole ones",
        )
    for index, folder in enumerate(spec.code):
        if fault := code_fault(folder):
            yield ("code", index), fault
    steps, grace = spec.trial.steps, spec.scheduler.grace_steps
    if isinstance(grace, int) and grace > steps:
        yield (
            ("scheduler", "grace_steps"),
            f"{grace} is beyond the budget of a trial, which is trial.steps = {steps}",
        )
    if spec.storage is not None and (fault := uri_fault(spec.storage)):
        yield ("storage",), fault
    if spec.trial.report_every > steps:
        yield ("trial", "report_every"), f"{spec.trial.report_every} is more than trial.steps"


def _check_optimizer(name: str, knobs: Knobs) -> Iterator[tuple[KeyPath, str]]:
    where = ("space", "optimizer", name)
    if ":" in name:
        if "lr" not in knobs:
            yield where, "an optimizer of one's own needs a range for lr"
        return
    if name not in OPTIMIZERS:
        yield where, f"unknown optimizer '{name}'" + nearest(name, OPTIMIZERS)
        return
    entry = OPTIMIZERS[name]
    valid = [field for field in entry.model_fields if field != "type"]
    for knob, dimension in knobs.items():
        if knob not in valid:
            yield (*where, knob), "unknown key" + nearest(knob, valid)
            continue
        for end in dimension.ends:
            try:
                entry.model_validate({"type": name, "lr": 1e-3, knob: end})
            except ValidationError as error:
                yield (*where, knob), in_words(error.errors()[0], entry)
                break


def notes(spec: SearchSpec) -> Iterator[str]:
    """What is no fault, but should be known before a search starts: shown by `check`."""
    trials, optimizers = spec.budget.trials, len(spec.optimizers)
    searches = optimizers * spec.replicates
    if spec.allocation == "equal" and trials % searches:
        each, of = trials // searches, f"{optimizers} optimizers"
        if spec.replicates > 1:
            of = f"{spec.replicates} searches of each of {of}"
        run = f"{each * searches} of the {trials} trials will be run"
        yield f"allocation equal: {run}, {each} for each of {of}"
    if spec.allocation == "adaptive" and trials < optimizers:
        yield f"{trials} trials are too few for {optimizers} optimizers: some will have none"
    for name, knobs in spec.space.optimizer.items():
        if keeps_lr(name):
            yield f"{name}: its trials have lr_schedule constant, since the method needs it"
        if name == "prodigy":
            ends = [end for end in knobs["lr"].ends if isinstance(end, int | float)]
            if min(ends) < 0.1 or max(ends) > 10:
                yield (
                    f"{name}: lr is a factor of its own estimate and should be about 1, got "
                    + " ... ".join(f"{end:g}" for end in ends)
                )
        if name in OPTIMIZERS and issubclass(OPTIMIZERS[name], EightBit):
            yield f"{name}: needs bitsandbytes and a CUDA device where its trials run"


def _check_shared(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    some = {"optimizer": {"type": "adam", "lr": 1e-3}}
    for name, dimension in spec.space.shared():
        key, in_steps = name.partition(".")[0], isinstance(spec.space.warmup, WarmupSteps)
        if name in WHOLE_NUMBERS and isinstance(dimension, Range):
            given = dimension.low, dimension.high, dimension.step or 1.0
            if any(number % 1 for number in given):
                yield ("space", key), "low, high and step have to be whole numbers here"
                continue
        for end in dimension.ends:
            value: Any = end
            if key == "warmup" and in_steps:
                value = {"steps": int(end)} if isinstance(end, float) else {"steps": end}
            elif key == "batch_size" and isinstance(dimension, Range):
                value = int(end) if isinstance(end, float) else end
            try:
                spec.trial.resolve(**some, **{key: value})
            except ValidationError as error:
                yield ("space", key), in_words(error.errors()[0], TrialConfig)
                break


def _check_sampler(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    kind, where = spec.sampler.type, ("sampler", "type")
    sampler, several = SAMPLERS[kind], len(spec.optimizers) > 1
    if several and not sampler.conditional and spec.allocation == "adaptive":
        yield (
            where,
            f"{kind} can't search several optimizers together, whose knobs differ; use "
            "allocation: equal (a study for each), or sampler tpe",
        )
    dimensions = {
        key: dimension
        for name in spec.optimizers
        for key, dimension in spec.space.dimensions(name)
    }
    for key, dimension in dimensions.items():
        if sampler.needs == "choices" and isinstance(dimension, Range):
            yield where, f"{kind} needs lists of choices, {key} is a range"
        of_lr = sampler.needs == "ranges of lr" and key.endswith(".lr")
        if of_lr and isinstance(dimension, Choices):
            yield where, f"{kind} needs ranges to learn in, {key} is a list of choices"
    if not SCHEDULERS[spec.scheduler.type].rungs and spec.scheduler.min_results is not None:
        yield ("scheduler", "min_results"), "without a scheduler there is nothing to decide"


def _check_allocation(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    trials, optimizers = spec.budget.trials, len(spec.optimizers)
    if spec.allocation == "equal" and trials < optimizers:
        yield (
            ("budget", "trials"),
            f"{trials} can't be divided equally among {optimizers} optimizers",
        )


def _check_equal_time(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    if spec.confirm and spec.confirm.equal_time and spec.replicates > 1:
        yield ("confirm", "equal_time"), "goes with one replicate only"


def _check_splits(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    if spec.confirm and spec.confirm.splits == "each" and spec.trial.dataset.type == "shards":
        yield ("confirm", "splits"), "each: examples in shards stay where they are; use one"


def _check_replicates(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    if spec.replicates == 1:
        return
    searches = spec.replicates * len(spec.optimizers)
    if spec.allocation != "equal":
        yield ("replicates",), "independent searches for each optimizer need allocation: equal"
    elif spec.budget.trials < FEWEST_TRIALS * searches:
        yield (
            ("replicates",),
            f"{spec.budget.trials} trials are too few for {spec.replicates} searches of each of "
            f"{len(spec.optimizers)} optimizers: {FEWEST_TRIALS} trials for each make "
            f"{FEWEST_TRIALS * searches}",
        )
    if spec.confirm is not None and (spec.confirm.per, spec.confirm.top) != ("optimizer", 1):
        yield (
            ("confirm",),
            "with replicates the winner of each search is confirmed: per optimizer, top 1",
        )


def _check_notify(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    if spec.notify is None:
        return
    try:
        if not shlex.split(spec.notify):
            yield ("notify",), "names no command; null for none"
    except ValueError as error:
        yield ("notify",), f"can't be read as a command: {str(error).lower()}"


def _check_workers(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    need, where = spec.resources, ("resources", "workers")
    if need.workers == 1:
        return
    sizes = [
        end
        for name, dimension in spec.space.shared()
        if name.partition(".")[0] == "batch_size"
        for end in dimension.ends
        if isinstance(end, int | float)
    ]
    if need.workers > (smallest := int(min([spec.trial.batch_size, *sizes]))):
        yield where, f"{need.workers} workers can't share a batch of {smallest}"
    if need.gpu % 1:
        yield where, f"several workers need whole GPUs each, resources.gpu is {need.gpu:g}"
    if spec.trial.device == "mps":
        yield where, "several workers need trial.device cpu or cuda, got mps"


def _check_objectives(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    several, metrics = len(spec.objectives) > 1, [metric for metric, _ in spec.aims]
    for index, (metric, mode) in enumerate(spec.aims):
        if metric.startswith("val_loss") and mode == "max":
            place = ("objective", index, "mode") if several else ("objective", "mode")
            yield place, f"{metric} is a loss, of which less is better; want min"
    where: KeyPath = ("objective", 0, "metric") if several else ("objective", "metric")
    if not metrics[0].startswith("val_loss"):
        yield (
            where,
            f"{metrics[0]} can't lead: rungs and the verdict need a validation loss (val_loss, "
            "val_loss_q1 ... q4) first in the list",
        )
    for index, metric in enumerate(metrics):
        if metric in metrics[:index]:
            yield ("objective", index, "metric"), f"{metric} is in the list twice"
        if metric.startswith("quality_") and spec.trial.quality is None:
            yield ("objective", index, "metric"), f"{metric} needs trial.quality, which is null"
    if several and not SAMPLERS[spec.sampler.type].fronts:
        *others, last = (name for name, entry in SAMPLERS.items() if entry.fronts)
        yield (
            ("sampler", "type"),
            f"{spec.sampler.type} looks for one best, not for a Pareto front; use "
            f"{', '.join(others)} or {last}",
        )


def _check_baselines(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    for index, config in enumerate(() if isinstance(spec.baselines, str) else spec.baselines):
        where = ("baselines", index)
        try:
            optimizer = spec.trial.resolve(**config).optimizer.type
        except ValidationError as error:
            for detail in error.errors():
                path = ".".join(str(key) for key in detail["loc"] if key in config)
                yield (*where, path), in_words(detail, TrialConfig)
            continue
        if optimizer not in spec.space.optimizer:
            yield where, f"optimizer '{optimizer}' is not in space.optimizer"


def _check_own_code(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    """Import what the user's own entries name; whatever their code raises is told in a line."""
    trial = spec.trial
    features = None if trial.quality is None else trial.quality.features
    named: dict[KeyPath, tuple[str | None, Callable[[], Any]]] = {
        ("trial", "dataset", "type"): (trial.dataset.type, trial.dataset.load),
        ("trial", "model", "type"): (trial.model.type, trial.model.load),
        ("trial", "loss"): (trial.loss, partial(load, trial.loss or "")),
        ("trial", "quality", "features"): (features, partial(load, features or "")),
        **{("space", "optimizer", name): (name, partial(load, name)) for name in spec.optimizers},
    }
    for where, (target, imported) in named.items():
        if target is None or ":" not in target or target.startswith((RECORDED, *FEATURE_FILES)):
            continue
        try:
            use_code(folder for folder in spec.code if code_fault(folder) is None)
            imported()
        except ValueError as error:
            yield where, str(error).splitlines()[0]
