"""Paths in a spec or a config are relative to the file that they stand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DATASETS = (("trial", "dataset"), ("dataset",))  # where a spec, or a config, has its dataset


def anchor(data: dict[str, Any], folder: Path) -> None:
    """Make paths of own code, data and weights absolute, in what a file in `folder` held.

    What is no path, or no text where a path should be, is left for the checks that follow.
    """
    base = folder.absolute()
    if isinstance(data.get("code"), list):
        data["code"] = [absolute(base, entry) for entry in data["code"]]
    for keys in DATASETS:
        where: Any = data
        for key in keys:
            where = where.get(key) if isinstance(where, dict) else None
        if isinstance(where, dict) and "path" in where and ":" not in str(where.get("type")):
            where["path"] = absolute(base, where["path"])

    for where in (data, data.get("trial")):
        if isinstance(where, dict) and "init" in where:
            where["init"] = absolute(base, where["init"])


def absolute(base: Path, given: Any) -> Any:
    """A path that does not depend on where the command is run; addresses stay as they are."""
    if not isinstance(given, str) or not given or "://" in given:
        return given
    return str((base / Path(given).expanduser()).resolve())
