"""Shelves: an entry is a frozen class that holds its name, its knobs, and where its code is."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, Tag

# "package.module:attribute", the way to name code of one's own
ImportString = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]  # a list in YAML, immutable here
OWN = "own code"  # the tag of an entry that is not on the shelf but names its code
RESERVED = ("trainable", "search", "cluster")  # packages here, which own modules can't be called


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


E = TypeVar("E", bound=Entry)


class Own(Entry):
    """Code of the user's own, named by `type: package.module:attribute`; its knobs are free."""

    model_config = ConfigDict(extra="allow")
    type: ImportString

    def load(self) -> Any:
        return load(self.type)


def by_name(*entries: type[E]) -> dict[str, type[E]]:
    """A shelf: its entries by their names."""
    return {entry.model_fields["type"].default: entry for entry in entries}


def any_of(shelf: Mapping[str, type[Entry]], **others: type[Entry]) -> Any:
    """The type of a key in a spec that takes any entry of a shelf, or one of `others` by tag."""
    tagged = [Annotated[entry, Tag(name)] for name, entry in {**shelf, **others}.items()]
    return reduce(or_, tagged)


def load(target: str) -> Any:
    """Import `package.module:attribute`.

    Raises:
        ValueError: the module or the attribute does not exist, or the module's code fails.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        name = str(error.name)
        hint = "; is its folder in code: [...]?" if module.split(".")[0] == name else ""
        raise ValueError(f"can't import '{target}': no module named '{name}'{hint}") from error
    except AttributeError as error:
        raise ValueError(f"can't import '{target}': {error}") from error
    except Exception as error:
        raise ValueError(f"can't import '{target}': {told(error)}") from error


def told(error: Exception) -> str:
    """An error of the user's code on one line, with the place of theirs where it came up."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:300]}{place_of(error)}"


def cause(error: BaseException) -> str:
    """Why something failed, on one line: what the message begins with, and what it came from."""
    first, root = error, error
    seen = {id(root)}
    while before := root.__cause__ or (None if root.__suppress_context__ else root.__context__):
        if id(before) in seen:
            break
        seen.add(id(before))
        root = before
    said = begins(first) + place_of(first)
    inner = begins(root)
    return said if inner in said else f"{said}, from {inner}{place_of(root)}"


def begins(error: BaseException) -> str:
    """An error by its type and the first line of its message; what comes after is advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


def place_of(error: BaseException) -> str:
    """The last line of the user's own code in a traceback, else of an installed package's."""
    frames = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in RESERVED
    ]
    python, *packages = map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
    installed = [(path, line) for path, line in frames if _inside(path, *packages)]
    others = [(path, line) for path, line in frames if not _inside(path, python, *packages)]
    own = [(path, line) for path, line in others if path.is_file()]
    return "".join(f" ({path.name}:{line})" for path, line in (own or installed)[-1:])


def _inside(path: Path, *folders: str) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def use_code(folders: Iterable[str]) -> None:
    """Make the modules in `folders` importable; on a clash of names, all others come first.

    Raises:
        ValueError: a folder is not there, or holds a module that can't be reached.
    """
    for folder in folders:
        if fault := code_fault(folder):
            raise ValueError(f"code: {fault}")
        if (path := str(Path(folder).absolute())) not in sys.path:
            sys.path.append(path)


def code_fault(folder: str) -> str | None:
    """Why a folder can't be used as the user's own code, if it can't."""
    if not Path(folder).is_dir():
        return f"no folder {folder}"
    for name in RESERVED:
        if (Path(folder) / name).is_dir() or (Path(folder) / f"{name}.py").exists():
            return f"{folder} holds a module named '{name}', which diffsweep has too; rename it"
    return None


def tag(value: Any) -> str | None:
    """The shelf name that a mapping (or an entry) asks for; OWN for an import string."""
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return OWN if isinstance(name, str) and ":" in name else name
