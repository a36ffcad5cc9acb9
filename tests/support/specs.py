"""Specs and configs that are quick to make and to train."""

from __future__ import annotations

from typing import Any

from search.spec.spec import SearchSpec
from trainable.config import TrialConfig, TrialSettings

SMALL: dict[str, Any] = {
    "model": {"type": "unet", "channels": 8, "multipliers": [1], "attention": False},
    "batch_size": 8,
    "steps": 16,
    "report_every": 4,
    "validation_examples": 16,
}


def make_spec(**keys: Any) -> SearchSpec:
    """A spec of a tiny search, with the given keys on top."""
    return SearchSpec.model_validate({"name": "tiny", "trial": SMALL} | keys)


def make_config(optimizer: dict[str, Any] | None = None, **keys: Any) -> TrialConfig:
    """A config of a tiny trial."""
    settings = TrialSettings.model_validate(
        SMALL | {k: v for k, v in keys.items() if k in TrialSettings.model_fields}
    )
    chosen = {k: v for k, v in keys.items() if k not in TrialSettings.model_fields}
    return settings.resolve(
        optimizer=optimizer or {"type": "adamw", "lr": 1e-2}, threads=1, **chosen
    )


class UnusedRay:
    """Ray, which may be starting while a search is found to be wrong, and is never waited for."""

    def __init__(self, shared_bytes: int) -> None:
        assert shared_bytes > 0

    def __enter__(self) -> UnusedRay:
        return self

    def wait(self) -> None:
        raise AssertionError("training began")

    def __exit__(self, *_: object) -> None:
        pass
