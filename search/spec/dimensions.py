"""Dimensions of a space: ranges, choices and fixed values, as YAML has them and as Optuna does."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from trainable.base.faults import shown
from trainable.base.shelf import Frozen, Listed

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial
    from optuna.distributions import BaseDistribution

Value = float | int | str | bool | None
WHOLE_NUMBERS = frozenset({"batch_size", "warmup.steps"})
CLOSE = 1e-6  # of a step: rounding
MOST_STEPS = 10**9  # of a range; more is no grid


class Absent(Enum):
    """What stands for a value that a dimension does not have; None may be one."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


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
        width = self.high - self.low
        if self.log_from_one and 1 - self.low == 1 - self.high:
            raise ValueError(f"1 - low and 1 - high are the same, got {self.low} and {self.high}")
        if not math.isfinite(width) or (self.log and not math.isfinite(self.high / self.low)):
            raise ValueError(f"low {self.low} and high {self.high} are too far apart")
        if self.step is not None and self.step > width * (1 + CLOSE):
            raise ValueError(f"step {self.step} is more than the range from low to high, {width}")
        if self.step is not None and width / self.step > MOST_STEPS:
            raise ValueError(f"step {self.step} makes more than {MOST_STEPS:,} values")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.last

    @property
    def steps(self) -> int:
        """How many steps fit between the ends; 0 without steps."""
        return 0 if self.step is None else int((self.high - self.low) / self.step + CLOSE)

    @property
    def last(self) -> float:
        """The largest value: with steps that do not end at `high`, the last that is below it."""
        return self.high if self.step is None else self.point(self.steps)

    def point(self, place: int) -> float:
        """The value after so many steps, in the range whatever rounding does."""
        assert self.step is not None
        value = self.low + self.step * min(max(place, 0), self.steps)
        return self.high if abs(value - self.high) < CLOSE * self.step else value

    def inside(self, value: float) -> float:
        """The value of the range next to one that rounding, or a sampler, has moved out of it."""
        if self.step is not None:
            return self.point(round((value - self.low) / self.step))
        return min(max(value, self.low), self.high)


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
            check_value(value)
        return Choices(values=tuple(given))
    if isinstance(given, Range | Choices | Fixed | dict):
        return given
    check_value(given)
    return Fixed(value=given)


def check_value(value: Any) -> None:
    """Raises a fault of the spec for what can be no value, in place of one for each kind of it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("not_finite", "must be finite, got {it}", {"it": shown(value)})
    if value is not None and not isinstance(value, float | int | str | bool):
        raise PydanticCustomError(
            "choice",
            "a value is a number, a text, true, false or null, not {it}",
            {"it": shown(value)},
        )


Dimension = Annotated[Range | Choices | Fixed, BeforeValidator(to_dimension)]
Knobs = dict[str, Dimension]


def distribution(name: str, dimension: Range | Choices) -> BaseDistribution:
    """A dimension as Optuna knows it.

    With log_from_one, Optuna's parameter is 1 - value. With steps it is their number, since what
    Optuna makes of steps in decimals need not be what they are here.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    low, high, log = dimension.low, dimension.last, dimension.log
    if name in WHOLE_NUMBERS:
        return IntDistribution(int(low), int(high), log=log, step=int(dimension.step or 1))
    if dimension.step is not None:
        return IntDistribution(0, dimension.steps)
    if dimension.log_from_one:
        return FloatDistribution(1 - high, 1 - low, log=True)
    return FloatDistribution(low, high, log=log)


def suggest(trial: OptunaTrial, name: str, dimension: Range | Choices | Fixed) -> Value:
    """Ask Optuna for a value of this dimension."""
    if isinstance(dimension, Fixed):
        return dimension.value
    value: Value = trial._suggest(name, distribution(name, dimension))
    return from_optuna(name, dimension, value)


def between(dimension: Range, quantile: float) -> float:
    """The value at a quantile of a range, in the scale in which it is searched."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        value = low * (high / low) ** quantile
    elif dimension.log_from_one:
        value = 1 - (1 - low) * ((1 - high) / (1 - low)) ** quantile
    else:
        value = low + (high - low) * quantile
    return dimension.inside(float(value))


def quantile_of(dimension: Range, value: float) -> float:
    """Where a value lies in its range, in the scale in which it is searched: 0 to 1.

    One outside of it, such as a weight decay of 0 in a logarithmic range, lies at its end.
    """
    low, high = dimension.low, dimension.high
    value = min(max(value, low), high)
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    if dimension.log_from_one:
        return math.log((1 - value) / (1 - low)) / math.log((1 - high) / (1 - low))
    return (value - low) / (high - low)


def from_optuna(name: str, dimension: Range | Choices, value: Value) -> Value:
    """What Optuna's value of its parameter stands for."""
    if name in WHOLE_NUMBERS or not isinstance(dimension, Range):
        return value
    assert isinstance(value, float | int)
    if dimension.step is not None:
        return dimension.point(int(value))
    return dimension.inside(1 - value if dimension.log_from_one else value)


def to_optuna(name: str, dimension: Range | Choices, value: Any) -> Value:
    """Optuna's value for one that was found in the dimension."""
    if name in WHOLE_NUMBERS or not isinstance(dimension, Range):
        same: Value = value
        return same
    number: float = value
    if dimension.step is not None:
        return round((number - dimension.low) / dimension.step)
    if dimension.log_from_one:
        return min(max(1 - number, 1 - dimension.high), 1 - dimension.low)
    return number


def found_in(name: str, dimension: Range | Choices, value: Value) -> Value | Absent:
    """A value as the dimension of this name has it: 0.0 is the choice 0; or ABSENT."""
    if isinstance(dimension, Choices):
        return next((choice for choice in dimension.values if equal(choice, value)), ABSENT)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ABSENT
    if not dimension.low <= value <= dimension.high:
        return ABSENT
    whole = name in WHOLE_NUMBERS
    step = dimension.step or (1.0 if whole else None)
    if step is None:
        return value
    place = round((value - dimension.low) / step)
    point = dimension.low + step * place if dimension.step is None else dimension.point(place)
    if abs(point - value) > CLOSE * step or (dimension.step and place > dimension.steps):
        return ABSENT
    return int(point) if whole else point


def equal(one: Value, other: Value) -> bool:
    """Whether two values mean the same: 1 and 1.0 do, 1 and true do not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
