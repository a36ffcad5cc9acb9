"""Durations as people write them: 90s, 30m, 2h."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
)
from pydantic_core import PydanticCustomError

from search.errors import BadInput

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


def duration(given: str, where: str) -> float:
    """A duration from the command line, in seconds.

    Raises:
        BadInput: it is none.
    """
    try:
        return float(seconds(given if given[-1:] in UNITS else given + "s"))
    except (PydanticCustomError, ValueError) as error:
        raise BadInput(
            f"{where}: expected a duration such as 90s, 30m or 2h, got {given}"
        ) from error


Duration = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(seconds)]
