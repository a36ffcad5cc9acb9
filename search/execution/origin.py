"""Where the numbers of a search come from: versions, data and code."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search.history.shipping import digest as code_digest
from search.spec.spec import SearchSpec
from trainable.data.parts import Data

PACKAGES = ("diffsweep", "torch", "ray", "optuna", "mlflow")


def origin(spec: SearchSpec, data: Data) -> dict[str, Any]:
    """Versions and a fingerprint of the data."""
    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in PACKAGES},
        "data": data.fingerprint,
        **({"code": "-".join(code_digest(Path(path)) for path in spec.code)} if spec.code else {}),
    }


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def compare(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What is not as it was when the search began."""
    for key, value in now.items():
        if before.get(key, value) != value:
            if key == "data":
                yield "the data is not what the search began with; old and new trials differ"
            elif key == "code":
                yield "your code is not what the search began with; old and new trials differ"
            else:
                yield f"{key} was {before[key]} when the search began, and is {value} now"
