"""SearchSpec: the YAML that describes a search, strict and frozen. Imports no torch and no ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from search.anchor import anchor
from search.errors import BadInput
from search.reading import KeyPath, nearest, read, shown
from search.space import Knobs, Range, Space, WarmupSteps, keeps_lr
from trainable.config import TrialSettings
from trainable.optimizers import OPTIMIZERS, EightBit
from trainable.shelf import Frozen, Listed, code_fault

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
METRICS = ("val_loss", "val_loss_q1", "val_loss_q2", "val_loss_q3", "val_loss_q4")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(given: Any) -> Any:
    """A duration such as 90, "90s", "30m", "1.5h" or "2d", in seconds."""
    if isinstance(given, str) and given[-1:] in UNITS:
        try:
            return float(given[:-1]) * UNITS[given[-1]]
        except ValueError:
            pass
    if isinstance(given, str):
        raise PydanticCustomError(
            "duration", "expected a duration such as 90s, 30m or 2h, got {given}", {"given": given}
        )
    return given


Duration = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(seconds)]


Word = Tag("a word")
Concurrent = Annotated[
    Annotated[Literal["auto"], Word] | Annotated[int, Field(ge=1), Tag("a number")],
    Discriminator(lambda given: "a word" if isinstance(given, str) else "a number"),
]
Baselines = Annotated[
    Annotated[Literal["default", "none"], Word] | Annotated[Listed[dict[str, Any]], Tag("a list")],
    Discriminator(lambda given: "a word" if isinstance(given, str) else "a list"),
]


class Objective(Frozen):
    metric: Literal["val_loss", "val_loss_q1", "val_loss_q2", "val_loss_q3", "val_loss_q4"] = (
        "val_loss"
    )
    mode: Literal["min", "max"] = "min"


class SamplerConfig(Frozen):
    type: Literal["tpe", "random", "qmc", "gp", "cmaes", "grid"] = "tpe"
    seed: int = Field(0, ge=0)


class SchedulerConfig(Frozen):
    type: Literal["asha", "hyperband", "median", "none"] = "asha"
    grace_steps: int | None = Field(None, ge=1)  # first rung; null: max(2 warmups, steps / 8)
    reduction_factor: int = Field(2, ge=2)
    min_results: int = Field(3, ge=2)  # results that a rung has before it stops anyone


class Budget(Frozen):
    """The first that is reached ends the search. Sums over all resumes."""

    trials: int = Field(40, ge=1)
    wall_clock: Duration = None
    gpu_hours: float | None = Field(None, gt=0)


class Confirm(Frozen):
    per: Literal["optimizer", "search"] = "optimizer"
    top: int = Field(1, ge=1)
    seeds: int = Field(5, ge=2)


class Resources(Frozen):
    """Of one trial; fractions are fine."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)
    workers: int = Field(1, ge=1)
    concurrent: Concurrent = "auto"


class Tracking(Frozen):
    uri: str | None = None  # null: MLFLOW_TRACKING_URI, else an SQLite store under the home
    experiment: Name | None = None  # null: the name of the spec


class SearchSpec(Frozen):
    """One search: what its trials share, what differs between them, and what it may cost."""

    name: Name
    trial: TrialSettings = TrialSettings()
    space: Space = Space()
    baselines: Baselines = "default"
    objective: Objective = Objective()
    allocation: Literal["adaptive", "equal"] = "adaptive"
    sampler: SamplerConfig = SamplerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    budget: Budget = Budget()
    trial_timeout: Duration = None
    confirm: Confirm | None = None
    resources: Resources = Resources()
    retries: int = Field(3, ge=0)  # of a trial whose process was lost
    tracking: Tracking = Tracking()
    storage: str | None = None  # null: under the home
    code: Listed[str] = ()  # folders of the user's own modules

    @property
    def optimizers(self) -> list[str]:
        return list(self.space.optimizer)


def load_spec(path: Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Read and check a spec, with `a.b=value` overrides.

    Raises:
        BadInput: every fault of the spec, one line each.
    """
    document = read(path)
    for assignment in overrides:
        document.override(assignment)
    anchor(document.data, path.parent)
    try:
        spec = SearchSpec.model_validate(document.data)
    except ValidationError as error:
        raise document.explain(error, SearchSpec) from error
    faults = [
        f"{document.locate(where)} {'.'.join(map(str, where))}: {message}"
        for where, message in check(spec, document.data)
    ]
    if faults:
        raise BadInput(*faults)
    return spec


def check(spec: SearchSpec, given: Any = None) -> Iterator[tuple[KeyPath, str]]:
    """Faults that need more than one key to see: where, and what is wrong."""
    yield from _not_yet(spec)
    for name, knobs in spec.space.optimizer.items():
        yield from _check_optimizer(name, knobs)
    yield from _check_shared(spec)
    yield from _check_baselines(spec)
    for index, folder in enumerate(spec.code):
        if fault := code_fault(folder):
            yield ("code", index), fault
    steps, grace = spec.trial.steps, spec.scheduler.grace_steps
    if grace is not None and grace > steps:
        yield (
            ("scheduler", "grace_steps"),
            f"{grace} is beyond the budget of a trial, which is trial.steps = {steps}",
        )
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
                yield (*where, knob), f"{shown(end)} won't do: {error.errors()[0]['msg'].lower()}"


def notes(spec: SearchSpec) -> Iterator[str]:
    """What is no fault, but should be known before a search starts: shown by `check`."""
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
        for end in dimension.ends:
            value: Any = end
            if key == "warmup" and in_steps:
                value = {"steps": int(end)} if isinstance(end, float) else {"steps": end}
            elif key == "batch_size" and isinstance(dimension, Range):
                value = int(end) if isinstance(end, float) else end
            try:
                spec.trial.resolve(**some, **{key: value})
            except ValidationError as error:
                message = error.errors()[0]["msg"].lower()
                yield ("space", key), f"{shown(end)} won't do: {message}"


def _check_baselines(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    for index, config in enumerate(() if isinstance(spec.baselines, str) else spec.baselines):
        where = ("baselines", index)
        try:
            optimizer = spec.trial.resolve(**config).optimizer.type
        except (ValidationError, TypeError) as error:
            detail = error.errors()[0] if isinstance(error, ValidationError) else None
            path = ".".join(map(str, detail["loc"])) if detail else ""
            yield where, f"{path}: {detail['msg'].lower()}" if detail else str(error)
            continue
        if optimizer not in spec.space.optimizer:
            yield where, f"optimizer '{optimizer}' is not in space.optimizer"


def _not_yet(spec: SearchSpec) -> Iterator[tuple[KeyPath, str]]:
    """Keys of the interface whose capability does not exist yet: refused, never ignored."""
    for path, asked in NOT_YET.items():
        value: Any = spec
        for key in path.split("."):
            value = getattr(value, key)
        if asked(value):
            text = shown(value) if isinstance(value, str | int | float) else "this"
            yield tuple(path.split(".")), f"{text} is not available yet"


NOT_YET: dict[str, Callable[[Any], bool]] = {
    "sampler.type": lambda value: value not in ("tpe", "random"),
    "scheduler.type": lambda value: value not in ("asha", "none"),
    "budget.gpu_hours": lambda value: value is not None,
    "trial_timeout": lambda value: value is not None,
    "confirm": lambda value: value is not None,
    "resources.workers": lambda value: value > 1,
    "storage": lambda value: value is not None and "://" in value,
}
