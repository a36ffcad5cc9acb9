"""Shelves: an entry is a frozen class that holds its name, its knobs, and where its code is."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# "package.module:attribute", the way to name code of one's own
ImportString = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]  # a list in YAML, immutable here
OWN = "own code"  # the tag of an entry that is not on the shelf but names its code


class Frozen(BaseModel):
    """Base of every model here: strict, immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Entry(Frozen):
    """One thing on a shelf. Its fields beside `type` are the knobs that a spec may set."""

    target: ClassVar[str]  # where the code is: "package.module:attribute"
    type: str

    def knobs(self) -> dict[str, Any]:
        """The knobs and their values."""
        return {name: value for name, value in self if name != "type"}

    def load(self) -> Any:
        """Import what this entry names."""
        return load(self.target)


class Own(Entry):
    """Code of the user's own, named by `type: package.module:attribute`; its knobs are free."""

    model_config = ConfigDict(extra="allow")
    type: ImportString

    def load(self) -> Any:
        return load(self.type)


def load(target: str) -> Any:
    """Import `package.module:attribute`.

    Raises:
        ValueError: the module or the attribute does not exist.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"can't import '{target}': no module named '{error.name}'") from error
    except AttributeError as error:
        raise ValueError(f"can't import '{target}': {error}") from error


def tag(value: Any) -> str | None:
    """The shelf name that a mapping (or an entry) asks for; OWN for an import string."""
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return OWN if isinstance(name, str) and ":" in name else name
