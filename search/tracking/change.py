"""What is to be said of one run of MLflow, in whatever way it is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from search.tracking.batch import Point


@dataclass
class Change:
    """What is new of a run. To say it twice is to say it once."""

    run: str | None = None  # its id; None: it is to be made
    name: str = ""
    started: int = 0  # ms since the epoch
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: str | None = None  # None: as it was
    ended: int | None = None  # ms since the epoch; None: it goes on
    texts: dict[str, str] = field(default_factory=dict)  # artifacts by their name


class Writer(Protocol):
    """A way into MLflow."""

    def write(self, changes: list[Change]) -> None:
        """Say all of it; a run that was made has its id then."""


def in_yaml(value: Any) -> str:
    """A value as a config says it: null and true, not None and True."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def flat(config: dict[str, Any]) -> dict[str, str]:
    """A config as MLflow parameters: `optimizer` = adamw, `optimizer.lr` = 0.001, ..."""
    params: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            for inner, content in value.items():
                params[key if inner == "type" else f"{key}.{inner}"] = in_yaml(content)
        else:
            params[key] = in_yaml(value)
    return params
