"""Faults in plain words: what was given, what is wanted, and the nearest valid choice."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def nearest(name: str, choices: Iterable[str]) -> str:
    """`, did you mean 'x'?` where a choice is near; else the choices."""
    choices = list(choices)
    if close := difflib.get_close_matches(name, choices, n=1, cutoff=0.6):
        return f", did you mean '{close[0]}'?"
    return f" (one of {', '.join(choices)})" if choices else ""


def shown(value: Any) -> str:
    """A value as it would stand in YAML, short."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "bool": "true or false",
    "dict": "a mapping",
    "model": "a mapping",
    "model_attributes": "a mapping",
    "tuple": "a list",
    "list": "a list",
}
BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def in_words(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """What pydantic found, in the words of the spec."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "extra_forbidden":
        return "unknown key" + nearest(key, _fields_at(model, detail["loc"][:-1]))
    if kind == "missing":
        return "missing"
    if kind == "union_tag_invalid":
        choices = re.findall(r"'([^']+)'", context["expected_tags"])
        choices = ["package.module:attribute" if c == "own code" else c for c in choices]
        return f"unknown type {shown(context['tag'])}" + nearest(str(context["tag"]), choices)
    if kind == "union_tag_not_found":
        return f"expected a mapping with a 'type', got {shown(given)}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", context["expected"])
        return f"{shown(given)} is not a choice" + nearest(str(given), choices)
    if kind in BOUNDS:
        words, bound = BOUNDS[kind]
        return f"must be {words} {context[bound]}, got {shown(given)}"
    if kind == "string_pattern_mismatch":
        return f"{shown(given)} does not match {context['pattern']}"
    if kind.endswith("_type") and kind.removesuffix("_type") in KINDS:
        return f"expected {KINDS[kind.removesuffix('_type')]}, got {shown(given)}"
    if kind == "too_short":
        return f"needs at least {context['min_length']}, got {context['actual_length']}"
    if kind == "finite_number":
        return f"must be finite, got {shown(given)}"
    return detail["msg"].removeprefix("Value error, ")


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that the model at this location has."""
    models: list[type[BaseModel]] = [model]
    for key in location:
        fields = [m.model_fields[str(key)].annotation for m in models if key in m.model_fields]
        if fields:
            models = [inner for kind in fields for inner in _models_in(kind)]
        else:  # a list's index, a mapping's key, or the tag of a union's branch
            models = [m for m in models if _tag_of(m) == key] or models
    return [name for m in models for name in m.model_fields]


def _models_in(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _models_in(part)]


def _tag_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    return field.default if field and isinstance(field.default, str) else None


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of a model's faults, with its key."""
    detail = error.errors()[0]
    return f"{detail['loc'][0] if detail['loc'] else model.__name__}: {in_words(detail, model)}"
