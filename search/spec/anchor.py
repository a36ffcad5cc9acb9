"""Paths in a spec are relative to the file that they stand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.history.storage import MISTYPED
from trainable.config_file import absolute, anchor_code, anchor_settings


def anchor(data: dict[str, Any], folder: Path) -> None:
    """Make the paths of code, data, weights and storage absolute, in what `folder` held.

    What is no path, or no text where a path should be, is left for the checks that follow.
    """
    base = folder.absolute()
    anchor_code(data, base)
    if "storage" in data and not MISTYPED.match(str(data["storage"])):
        data["storage"] = absolute(base, data["storage"])
    if isinstance(data.get("trial"), dict):
        anchor_settings(data["trial"], base)
