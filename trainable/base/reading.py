"""YAML as people write it: YAML 1.2, ${VAR}, positions, and errors in plain words."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from trainable.base.errors import BadInput
from trainable.base.faults import in_words, shown

MAX_BYTES = 1 << 20  # a spec is a page; more is a mistake
MAX_VALUES, MAX_DEPTH = 10_000, 50  # aliases included, which can make much out of a page
VARIABLE = re.compile(r"\$\{(\w+)\}")
Position = tuple[int, int]  # line and column, from 1
KeyPath = tuple[str | int, ...]


class Document:
    """Plain data read from YAML, and where each key stood."""

    def __init__(self, name: str, data: Any, positions: dict[KeyPath, Position]) -> None:
        self.name, self.data, self.positions = name, data, positions
        self.overrides: dict[KeyPath, str] = {}  # what came from --set, not from the file

    def override(self, assignment: str) -> None:
        """Apply `a.b=value`, the value read as YAML.

        Raises:
            BadInput: it is no assignment, or leads through something that is no mapping.
        """
        path, equals, text = assignment.partition("=")
        rest = path.split(".")
        if not equals or not all(rest):
            raise BadInput(f"--set {assignment}: expected KEY=VALUE, as in trial.steps=500")
        where, keys = self.data, []
        while True:
            key, rest = _next_key(where, rest)
            keys.append(key)
            if not rest:
                break
            if where.get(key) is None:
                where[key] = {}
            where = where[key]
            if not isinstance(where, dict):
                raise BadInput(f"--set {assignment}: '{key}' holds {shown(where)}, not a mapping")
        where[key] = parse(text, f"--set {assignment}").data
        self.overrides[tuple(keys)] = f"--set {assignment}"

    def locate(self, path: KeyPath) -> str:
        """`file:line:column` of the deepest part of the path that stands in the file, or the flag
        that set it."""
        for end in range(len(path), 0, -1):
            if flag := self.overrides.get(path[:end]):
                return flag
            if position := self.positions.get(path[:end]):
                return f"{self.name}:{position[0]}:{position[1]}"
        return f"{self.name}:1:1"

    def explain(self, error: ValidationError, model: type[BaseModel]) -> BadInput:
        """All faults that pydantic found, one line each, in the words of the spec."""
        faults = [
            self._explain_one(detail, model)
            for detail in error.errors()
            # a list whose items are faulty counts for pydantic as one without them
            if detail["type"] != "too_short" or len(detail["input"]) < detail["ctx"]["min_length"]
        ]
        return BadInput(*dict.fromkeys(faults))

    def _explain_one(self, detail: ErrorDetails, model: type[BaseModel]) -> str:
        path = self._path(detail)
        return self.fault(path, in_words(detail, model))

    def fault(self, path: KeyPath, message: str) -> str:
        """The line that tells of a fault: where it is, at which key, and what is wrong."""
        return f"{self.locate(path)} {'.'.join(map(str, path))}: {message}".replace(" : ", ": ")

    def _path(self, detail: ErrorDetails) -> KeyPath:
        """pydantic's location without the names of union branches, which no file holds."""
        path: list[str | int] = []
        where = self.data
        for key in detail["loc"]:
            inside = isinstance(where, dict) and key in where
            inside |= isinstance(where, list) and isinstance(key, int) and key < len(where)
            if inside:
                where = where[key]
            elif detail["type"] != "missing" or key != detail["loc"][-1]:
                continue
            path.append(key)
        return tuple(path)


def _next_key(where: dict[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    """The first key of a path that was cut at its dots, and what comes after it.

    A key may hold dots itself: it is the longest that is there, or else code of one's own,
    package.module:attribute, to its end.
    """
    for end in range(len(parts), 1, -1):
        if (key := ".".join(parts[:end])) in where:
            return key, parts[end:]
    own = next((end for end, part in enumerate(parts, start=1) if ":" in part), 1)
    own = 1 if parts[0] in where else own
    return ".".join(parts[:own]), parts[own:]


def read(path: Path) -> Document:
    """Read a YAML file that holds a mapping.

    Raises:
        BadInput: it can't be read, is no YAML, repeats a key, or holds no mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no spec is")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise BadInput(f"{path}: {reason}") from error
    document = parse(text, str(path))
    if not isinstance(document.data, dict):
        raise BadInput(f"{path}: line 1: expected a mapping, got {shown(document.data)}")
    return document


def parse(text: str, name: str) -> Document:
    """Parse YAML 1.2, with ${VAR} taken from the environment.

    Raises:
        BadInput: it is no YAML, repeats a key, or names a variable that is not set.
    """
    yaml = YAML(typ="rt", pure=True)
    try:
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = (error.problem or "not readable").partition(", original value")[0]
        first = ""
        if "duplicate key" in problem and (key := re.search(r'key "([^"]+)"', problem)):
            problem = f"the key '{key[1]}' is here twice"
            first = _first_use(text, key[1], line)
        raise BadInput(f"{name}: line {line}: {problem}{first}") from error
    except RecursionError as error:
        raise BadInput(f"{name}: nested more than {MAX_DEPTH} deep") from error
    except Exception as error:  # YAMLError, and what its reader raises at values that are none
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{name}: not readable as YAML: {why}") from error
    positions: dict[KeyPath, Position] = {}
    return Document(name, _plain(loaded, (), positions, name), positions)


def _plain(node: Any, path: KeyPath, positions: dict[KeyPath, Position], name: str) -> Any:
    """ruamel's nodes as plain Python, with the position of each key noted."""
    if len(path) > MAX_DEPTH or len(positions) > MAX_VALUES:
        raise BadInput(
            f"{name}: more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} deep"
        )
    if isinstance(node, CommentedMap):
        plain: dict[str, Any] = {}
        for key, value in node.items():
            inner = (*path, str(key))
            line, column = node.lc.key(key) if key in (node.lc.data or {}) else (0, 0)
            positions[inner] = line + 1, column + 1
            plain[str(key)] = _plain(value, inner, positions, name)
        return plain
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            line, column = node.lc.item(index)
            positions[(*path, index)] = line + 1, column + 1
        return [_plain(v, (*path, i), positions, name) for i, v in enumerate(node)]
    if isinstance(node, str):
        return _fill(str(node), name, path)
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, ScalarBoolean):  # one with an anchor, which is an int otherwise
        return bool(node)
    if isinstance(node, float):
        return float(node)
    if isinstance(node, int):
        if abs(node) >= 2**63:
            raise BadInput(f"{name}: {_key(path)}too large a number, beyond 2^63")
        return int(node)
    if isinstance(node, date):
        return str(node)  # YAML 1.2 has no dates: what stands there is a text
    raise BadInput(f"{name}: {_key(path)}expected plain YAML, got {type(node).__name__}")


def _key(path: KeyPath) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""


def _fill(text: str, name: str, path: KeyPath) -> Any:
    """Replace ${VAR}; a value that is one variable alone may be a number."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            where = ".".join(map(str, path))
            raise BadInput(f"{name}: {where}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    filled = VARIABLE.sub(value, text)
    if VARIABLE.fullmatch(text):
        parsed = YAML(typ="safe", pure=True).load(filled)
        return parsed if isinstance(parsed, bool | int | float) else filled
    return filled


def _first_use(text: str, key: str, line: int) -> str:
    before = text.splitlines()[: line - 1]
    pattern = re.compile(rf"^\s*(?:- )?['\"]?{re.escape(key)}['\"]?\s*:")
    uses = [number for number, content in enumerate(before, start=1) if pattern.match(content)]
    return f", first in line {uses[-1]}" if uses else ""
