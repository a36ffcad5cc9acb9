"""What all tests share: a home of their own, and services where they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["support.services"]  # S3, PostgreSQL: started where a test asks for them


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
