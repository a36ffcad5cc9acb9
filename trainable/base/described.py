"""What a function of the user's returned, in words that name it."""

from __future__ import annotations

from typing import Any

MANY = 3  # parts and keys of a thing that are named


def described(value: Any) -> str:
    """A value in a few words: its kind, and of arrays their type and shape."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool | int | float | str | bytes):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        dtype = str(value.dtype).removeprefix("torch.")
        kind = kind.removeprefix("nd")  # numpy's array
        return f"{_article(kind)} {kind} of {dtype} with shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        more = ", ..." if len(value) > MANY else ""
        inner = ", ".join(described(part) for part in value[:MANY])
        return f"a {kind} of {len(value)} ({inner}{more})"
    if isinstance(value, dict):
        more = ", ..." if len(value) > MANY else ""
        return f"a {kind} with the keys {', '.join(map(repr, list(value)[:MANY]))}{more}"
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it"
    return f"{_article(kind)} {kind}"


def _article(word: str) -> str:
    return "an" if word[0].lower() in "aeio" else "a"
