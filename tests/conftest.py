"""What many tests need: a home of their own, and specs that are quick to make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from search.spec import SearchSpec
from trainable.config import TrialConfig, TrialSettings

pytest_plugins = ["services"]  # S3, PostgreSQL: started where a test asks for them

SMALL: dict[str, Any] = {
    "model": {"type": "unet", "channels": 8, "multipliers": [1], "attention": False},
    "batch_size": 8,
    "steps": 16,
    "report_every": 4,
    "validation_examples": 16,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Searches run one after another, in one process; beside them another takes what is quick."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and nothing taken from the environment."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_TRACKING", "DIFFSWEEP_", "RAY_ADDRESS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


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
