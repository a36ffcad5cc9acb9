"""Dimensions of a space: ranges, choices and fixed values, as YAML has them and as Optuna does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from trainable.base.shelf import Frozen, Listed

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial
    from optuna.distributions import BaseDistribution

Value = float | int | str | bool | None
WHOLE_NUMBERS = frozenset({"batch_size", "warmup.steps"})


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


def to_dimension(given: Any) -> Any:
    """YAML's shorthand: a mapping is a range, a list its choices, anything else is fixed."""
    if isinstance(given, dict) and not given.keys() & {"value", "values"}:
        return Range.model_validate(given)
    if isinstance(given, list | tuple):
        if not given:
            raise PydanticCustomError("empty_choices", "a list of choices needs at least one")
        for value in given:
            if isinstance(value, dict | list | tuple):
                raise PydanticCustomError(
                    "choice", "a choice is a number, a text, true, false or null, not a list"
                )
        return Choices(values=tuple(given))
    return given if isinstance(given, Range | Choices | Fixed | dict) else Fixed(value=given)


Dimension = Annotated[Range | Choices | Fixed, BeforeValidator(to_dimension)]
Knobs = dict[str, Dimension]


def distribution(name: str, dimension: Range | Choices) -> BaseDistribution:
    """A dimension as Optuna knows it. With log_from_one, Optuna's parameter is 1 - value."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    low, high, log = dimension.low, dimension.high, dimension.log
    if name in WHOLE_NUMBERS:
        return IntDistribution(int(low), int(high), log=log, step=int(dimension.step or 1))
    if dimension.log_from_one:
        return FloatDistribution(1 - high, 1 - low, log=True)
    return FloatDistribution(low, high, log=log, step=dimension.step)


def suggest(trial: OptunaTrial, name: str, dimension: Range | Choices | Fixed) -> Value:
    """Ask Optuna for a value of this dimension."""
    if isinstance(dimension, Fixed):
        return dimension.value
    value: Value = trial._suggest(name, distribution(name, dimension))
    return _from_optuna(dimension, value)


def between(dimension: Range, quantile: float) -> float:
    """The value at a quantile of a range, in the scale in which it is searched."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        return float(low * (high / low) ** quantile)
    if dimension.log_from_one:
        return float(1 - (1 - low) * ((1 - high) / (1 - low)) ** quantile)
    steps = 0 if dimension.step is None else round((high - low) * quantile / dimension.step)
    return low + (dimension.step * steps if dimension.step else (high - low) * quantile)


def quantile_of(dimension: Range, value: float) -> float:
    """Where a value lies in its range, in the scale in which it is searched: 0 to 1."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    if dimension.log_from_one:
        return math.log((1 - value) / (1 - low)) / math.log((1 - high) / (1 - low))
    return (value - low) / (high - low)


def _from_optuna(dimension: Range | Choices, value: Value) -> Value:
    if isinstance(dimension, Range) and dimension.log_from_one:
        assert isinstance(value, float)
        return 1 - value
    return value


def contains(dimension: Range | Choices, value: Value) -> bool:
    """Whether a value lies in the dimension."""
    if isinstance(dimension, Choices):
        return any(value == choice and type(value) is type(choice) for choice in dimension.values)
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high
