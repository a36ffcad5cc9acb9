"""The conditional space: what each optimizer searches, the published defaults, and proposals."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from search.spec.dimensions import (
    ABSENT,
    Choices,
    Dimension,
    Fixed,
    Knobs,
    Range,
    distribution,
    equal,
    found_in,
    suggest,
    to_dimension,
    to_optuna,
)
from search.spec.priors import DEFAULT_KNOBS, PUBLISHED
from trainable.base.faults import shown
from trainable.base.shelf import Frozen
from trainable.config import Steps, TrialConfig, TrialSettings
from trainable.optimizers.shelf import OPTIMIZERS

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial
    from optuna.distributions import BaseDistribution

MOST_POINTS = 10_000  # of a space that is listed
IF_ASKED_FOR = ("clip_value", "clip_agc", "batch_size")  # searched only if the space has them
DEFAULT_OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")


class WarmupSteps(Frozen):
    """A warmup counted in steps instead of a fraction of the budget."""

    steps: Dimension


def _warmup(given: Any) -> Any:
    if isinstance(given, dict) and "steps" in given:
        return WarmupSteps.model_validate(given)
    return given if isinstance(given, WarmupSteps) else to_dimension(given)


def _optimizers(given: Any) -> Any:
    """One name, a list of names, or a mapping; defaults fill in what is not given."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        for index, name in enumerate(given):
            if not isinstance(name, str) or name in given[:index]:
                fault = "an optimizer is named once, got {it}"
                raise PydanticCustomError("name", fault, {"it": shown(name)})
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

    def largest_warmup(self, steps: int, batch_size: int) -> int:
        """The longest warmup that a trial of `steps` of `batch_size` can have, in such steps.

        A warmup that is counted in steps lasts longer in a trial of larger batches.
        """
        longest = max(self._warmups(steps))
        if self.batch_size is None or not isinstance(self.warmup, WarmupSteps):
            return longest
        sizes = [end for end in self.batch_size.ends if isinstance(end, int | float)]
        return math.ceil(longest * max(1.0, max(sizes) / batch_size))

    def combinations(self, name: str) -> Iterator[dict[str, Any]]:
        """Every combination of an optimizer's choices, by dimension; of a range, both its ends."""
        dimensions = dict(self.dimensions(name))
        for point in itertools.product(*(dimension.ends for dimension in dimensions.values())):
            yield {"optimizer": name, **dict(zip(dimensions, point, strict=True))}

    def points(self, names: Sequence[str]) -> list[dict[str, Any]] | None:
        """All configs with these optimizers, by dimension; None if they are too many to list."""
        count = 0
        for name in names:
            ends = [dimension.ends for _, dimension in self.dimensions(name)]
            if any(isinstance(dimension, Range) for _, dimension in self.dimensions(name)):
                return None
            count += math.prod(map(len, ends))
        if count > MOST_POINTS:
            return None
        return [point for name in names for point in self.combinations(name)]

    def identity(self, chosen: Mapping[str, Any]) -> str:
        """Equal for equal configs: what is not searched counts where it is not the default."""
        name = chosen["optimizer"]
        fields = OPTIMIZERS[name].model_fields if name in OPTIMIZERS else {}
        searched = dict(self.dimensions(name)) if name in self.optimizer else {}

        def counts(key: str, value: Any) -> bool:
            knob = key.removeprefix(f"{name}.")
            return key in searched or knob not in fields or value != fields[knob].default

        return json.dumps({k: v for k, v in chosen.items() if counts(k, v)}, sort_keys=True)

    def warmup_differs(self) -> bool:
        """Whether trials can have different warmups."""
        return len(set(self._warmups(10**6))) > 1

    def _warmups(self, steps: int) -> list[int]:
        """The ends of the warmup's range, or its choices, in steps."""
        in_steps = isinstance(self.warmup, WarmupSteps)
        dimension = self.warmup.steps if isinstance(self.warmup, WarmupSteps) else self.warmup
        ends = [end for end in dimension.ends if isinstance(end, int | float)]
        return [int(end if in_steps else round(end * steps)) for end in ends]

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
                if not equal(value, dimension.value):
                    return None
                continue
            found = found_in(name, dimension, value)
            if found is ABSENT:
                return None
            params[name] = to_optuna(name, dimension, found)
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


def distributions(space: Space, optimizer: str, names: list[str]) -> dict[str, BaseDistribution]:
    """The Optuna distributions of a trial with this optimizer, among the optimizers `names`."""
    from optuna.distributions import CategoricalDistribution

    free: dict[str, BaseDistribution] = {
        name: distribution(name, dimension)
        for name, dimension in space.dimensions(optimizer)
        if not isinstance(dimension, Fixed)
    }
    return ({"optimizer": CategoricalDistribution(names)} if len(names) > 1 else {}) | free


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
