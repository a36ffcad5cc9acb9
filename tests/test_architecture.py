"""The shape of the code: imports go one way, and the light files stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

PACKAGES = ("trainable", "search", "cluster")  # a package may import those before it


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_from_cluster_to_search_to_trainable(package: str) -> None:
    forbidden = set(PACKAGES[PACKAGES.index(package) + 1 :])
    for path in (ROOT / package).rglob("*.py"):
        assert not imports(path) & forbidden, path


def test_a_trial_knows_nothing_of_optuna_and_mlflow_and_two_files_know_ray() -> None:
    for path in (ROOT / "trainable").rglob("*.py"):
        assert not imports(path) & {"optuna", "mlflow"}, path
        assert "ray" not in imports(path) or path.name in ("trial.py", "workers.py"), path


LIGHT = ("trainable.config", "search.spec.spec", "cluster.cli")
LOOKING = (
    "search.watch.shown",
    "search.watch.operate",
    "search.watch.logs",
    "cluster.remote.steering",
    "cluster.remote.seen",
)


@pytest.mark.parametrize("module", [*LIGHT, *LOOKING])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "numpy", "scipy")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
