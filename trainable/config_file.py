"""A config as a file: read, its paths made absolute, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainable.base.reading import read
from trainable.config import FEATURE_FILES, TrialConfig


def read_config(path: Path, flags: Mapping[str, Any] | None = None) -> TrialConfig:
    """A config file, as `export` writes it. `flags` are keys that the command line sets instead.

    Raises:
        BadInput: every fault of the config, one line each.
    """
    document = read(path)
    anchor_code(document.data, path.parent.absolute())
    anchor_settings(document.data, path.parent.absolute())
    for key, value in (flags or {}).items():
        document.data[key] = value
        document.overrides[key,] = f"--{key} {value}"
    try:
        return TrialConfig.model_validate(document.data)
    except ValidationError as error:
        raise document.explain(error, TrialConfig) from error


def anchor_code(data: dict[str, Any], base: Path) -> None:
    """Make the paths in `code:` absolute; what is no list is left for the checks that follow."""
    if isinstance(data.get("code"), list):
        data["code"] = [absolute(base, entry) for entry in data["code"]]


def anchor_settings(settings: dict[str, Any], base: Path) -> None:
    """The same for data, weights and features in the settings of a trial."""
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
