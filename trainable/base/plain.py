"""JSON that every program can read: it has no words for what is not finite."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(content: Any, indent: int | None = None) -> str:
    """Content as JSON, with null for each number that is not finite."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
