"""The conditional space: what each optimizer searches, the published defaults, and proposals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from search.priors import DEFAULT_KNOBS, PUBLISHED
from trainable.config import Steps, TrialConfig, TrialSettings
from trainable.optimizers import OPTIMIZERS
from trainable.shelf import Frozen, Listed

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial

Value = float | int | str | bool | None
WHOLE_NUMBERS = frozenset({"batch_size", "warmup.steps"})
IF_ASKED_FOR = ("clip_value", "clip_agc", "batch_size")  # searched only if the space has them
DEFAULT_OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")


class Range(Frozen):
    """A stretch of numbers, uniform unless said otherwise."""

    low: float
    high: float
    log: bool = False  # uniform in the logarithm
    log_from_one: bool = False  # uniform in the logarithm of 1 - value: momentum, betas
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be less than high, got low {self.low}, high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range needs low above 0, got {self.low}")
        if self.log_from_one and not 0 <= self.low < self.high < 1:
            raise ValueError(
                f"a log_from_one range lies in [0, 1), got low {self.low}, high {self.high}"
            )
        if sum([self.log, self.log_from_one, self.step is not None]) > 1:
            raise ValueError("only one of log, log_from_one and step can be set")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high


class Choices(Frozen):
    """A list of values, one of which is taken."""

    values: Listed[Value]

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.values


class Fixed(Frozen):
    """A value that all trials share."""

    value: Value

    @property
    def ends(self) -> tuple[Value, ...]:
        return (self.value,)


def _dimension(given: Any) -> Any:
    """YAML's shorthand: a mapping is a range, a list its choices, anything else is fixed."""
    if isinstance(given, dict) and not given.keys() & {"value", "values"}:
        return Range.model_validate(given)
    if isinstance(given, list | tuple):
        if not given:
            raise PydanticCustomError("empty_choices", "a list of choices needs at least one")
        return Choices(values=tuple(given))
    return given if isinstance(given, Range | Choices | Fixed | dict) else Fixed(value=given)


Dimension = Annotated[Range | Choices | Fixed, BeforeValidator(_dimension)]
Knobs = dict[str, Dimension]


class WarmupSteps(Frozen):
    """A warmup counted in steps instead of a fraction of the budget."""

    steps: Dimension


def _warmup(given: Any) -> Any:
    if isinstance(given, dict) and "steps" in given:
        return WarmupSteps.model_validate(given)
    return given if isinstance(given, WarmupSteps) else _dimension(given)


def _optimizers(given: Any) -> Any:
    """One name, a list of names, or a mapping; defaults fill in what is not given."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        given = {name: {} for name in given}
    if not isinstance(given, dict):
        return given
    filled: dict[str, Any] = {}
    for name, knobs in given.items():
        knobs = {} if knobs is None else knobs
        if isinstance(knobs, dict):
            knobs = DEFAULT_KNOBS.get(name, {}) | knobs
        filled[name] = knobs
    return filled


def _defaults() -> dict[str, Knobs]:
    four = {name: DEFAULT_KNOBS[name] for name in DEFAULT_OPTIMIZERS}
    return TypeAdapter(dict[str, Knobs]).validate_python(four)


class Space(Frozen):
    """What differs between trials: an optimizer with its own knobs, and what all share."""

    optimizer: Annotated[dict[str, Knobs], BeforeValidator(_optimizers)] = Field(
        default_factory=_defaults, min_length=1
    )
    warmup: Annotated[Range | Choices | Fixed | WarmupSteps, BeforeValidator(_warmup)] = Range(
        low=0.0, high=0.05
    )
    lr_schedule: Dimension = Choices(values=("constant", "linear", "cosine", "wsd"))
    clip_norm: Dimension = Choices(values=(None, 0.1, 1.0, 5.0))
    clip_value: Dimension | None = None  # null: no such clipping
    clip_agc: Dimension | None = None
    batch_size: Dimension | None = None  # null: that of the trial settings

    def dimensions(self, optimizer: str) -> Iterator[tuple[str, Range | Choices | Fixed]]:
        """The names and dimensions of a trial with this optimizer; its own come first."""
        for knob, dimension in self.optimizer[optimizer].items():
            yield f"{optimizer}.{knob}", dimension
        for name, dimension in self.shared():
            if name != "lr_schedule" or not keeps_lr(optimizer):
                yield name, dimension

    def shared(self) -> Iterator[tuple[str, Range | Choices | Fixed]]:
        """What every trial has; but an optimizer that keeps its lr has no lr_schedule."""
        if isinstance(self.warmup, WarmupSteps):
            yield "warmup.steps", self.warmup.steps
        else:
            yield "warmup", self.warmup
        yield "lr_schedule", self.lr_schedule
        yield "clip_norm", self.clip_norm
        for name in IF_ASKED_FOR:
            if (dimension := getattr(self, name)) is not None:
                yield name, dimension

    def largest_warmup(self, steps: int) -> int:
        """The longest warmup that a trial of `steps` can have, in steps."""
        in_steps = isinstance(self.warmup, WarmupSteps)
        dimension = self.warmup.steps if isinstance(self.warmup, WarmupSteps) else self.warmup
        longest = max(end for end in dimension.ends if isinstance(end, int | float))
        return int(longest if in_steps else round(longest * steps))

    def propose(self, trial: OptunaTrial, names: list[str]) -> dict[str, Any]:
        """Let Optuna fill in a trial over the optimizers `names`: values by dimension."""
        free = len(names) > 1
        optimizer = trial.suggest_categorical("optimizer", names) if free else names[0]
        chosen: dict[str, Any] = {"optimizer": optimizer}
        for name, dimension in self.dimensions(optimizer):
            chosen[name] = suggest(trial, name, dimension)
        return chosen

    def encode(self, chosen: Mapping[str, Any], names: list[str]) -> dict[str, Any] | None:
        """The Optuna parameters of what was chosen; None if the space does not contain it."""
        optimizer = chosen["optimizer"]
        params: dict[str, Any] = {"optimizer": optimizer} if len(names) > 1 else {}
        for name, dimension in self.dimensions(optimizer):
            value = chosen[name]
            if isinstance(dimension, Fixed):
                if value != dimension.value:
                    return None
                continue
            if not contains(dimension, value):
                return None
            from_one = isinstance(dimension, Range) and dimension.log_from_one
            params[name] = 1 - value if from_one else value
        return params


def keeps_lr(optimizer: str) -> bool:
    """Whether the optimizer's lr_schedule is always constant, because the method needs it."""
    return optimizer in OPTIMIZERS and OPTIMIZERS[optimizer].constant_lr


def settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen by dimension, as the keys of a TrialConfig."""
    optimizer = chosen["optimizer"]
    keys: dict[str, Any] = {"optimizer": {"type": optimizer}}
    for name, value in chosen.items():
        section, _, knob = name.rpartition(".")
        if name == "warmup.steps":
            keys["warmup"] = {"steps": value}
        elif section:
            keys["optimizer"][knob] = value
        elif name != "optimizer":
            keys[name] = value
    return keys


def suggest(trial: OptunaTrial, name: str, dimension: Range | Choices | Fixed) -> Value:
    """Ask Optuna for a value of this dimension."""
    if isinstance(dimension, Fixed):
        return dimension.value
    if isinstance(dimension, Choices):
        chosen: Value = trial.suggest_categorical(name, dimension.values)
        return chosen
    low, high, log = dimension.low, dimension.high, dimension.log
    if name in WHOLE_NUMBERS:
        return trial.suggest_int(name, int(low), int(high), log=log, step=int(dimension.step or 1))
    if dimension.log_from_one:
        return 1 - trial.suggest_float(name, 1 - high, 1 - low, log=True)
    return trial.suggest_float(name, low, high, log=log, step=dimension.step)


def contains(dimension: Range | Choices, value: Value) -> bool:
    """Whether a value lies in the dimension."""
    if isinstance(dimension, Choices):
        return any(value == choice and type(value) is type(choice) for choice in dimension.values)
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high


def baselines(
    space: Space, trial: TrialSettings, given: str | Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The configs that are tried before anything is searched, by dimension.

    By default the published one of each optimizer, Adam's or AdamW's first. What the space fixes
    stays fixed: the user wants it in every trial.
    """
    if given == "none":
        return []
    if isinstance(given, str):
        names = sorted(space.optimizer, key=lambda name: name not in ("adam", "adamw"))
        given = [PUBLISHED[name] for name in names if name in PUBLISHED]
    return [choice_of(trial.resolve(**config), space) for config in given]


def choice_of(config: TrialConfig, space: Space) -> dict[str, Any]:
    """A config by dimension: what the search would have had to choose to arrive at it."""
    name = config.optimizer.type
    chosen: dict[str, Any] = {"optimizer": name}
    chosen |= {f"{name}.{knob}": value for knob, value in config.optimizer.knobs().items()}
    if isinstance(space.warmup, WarmupSteps):
        chosen["warmup.steps"] = config.warmup_steps
    else:
        in_steps = isinstance(config.warmup, Steps)
        chosen["warmup"] = config.warmup_steps / config.steps if in_steps else config.warmup
    chosen |= {"lr_schedule": config.lr_schedule, "clip_norm": config.clip_norm}
    for key in IF_ASKED_FOR:
        if getattr(space, key) is not None:
            chosen[key] = getattr(config, key)
    for key, dimension in space.dimensions(name):
        if isinstance(dimension, Fixed):
            chosen[key] = dimension.value
    return chosen
