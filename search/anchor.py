"""Paths in a spec or a config are relative to the file that they stand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.storage import MISTYPED
from trainable.config import FEATURE_FILES


def anchor(data: dict[str, Any], folder: Path) -> None:
    """Make the paths of code, data and weights absolute, in what was read from `folder`.

    What is no path, or no text where a path should be, is left for the checks that follow.
    """
    base = folder.absolute()
    if isinstance(data.get("code"), list):
        data["code"] = [absolute(base, entry) for entry in data["code"]]
    if "storage" in data and not MISTYPED.match(str(data["storage"])):
        data["storage"] = absolute(base, data["storage"])
    for settings in (data.get("trial"), data):  # a spec has a section for them, a config has not
        if not isinstance(settings, dict):
            continue
        if "init" in settings:
            settings["init"] = absolute(base, settings["init"])
        dataset, quality = settings.get("dataset"), settings.get("quality")
        if isinstance(dataset, dict) and ":" not in str(dataset.get("type")):
            for key in dataset.keys() & {"path", "cache"}:
                dataset[key] = absolute(base, dataset[key])
        if isinstance(quality, dict) and str(quality.get("features")).startswith(FEATURE_FILES):
            kind, _, path = quality["features"].partition(":")
            quality["features"] = f"{kind}:{absolute(base, path)}"


def absolute(base: Path, given: Any) -> Any:
    """A path that does not depend on where the command is run; addresses stay as they are."""
    if not isinstance(given, str) or not given or "://" in given:
        return given
    return str((base / Path(given).expanduser()).resolve())
