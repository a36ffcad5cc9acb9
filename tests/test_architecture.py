"""The shape of the code: rooms whose imports only go down, and light files that stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.paths import ROOT
from support.rooms import MODULES, ORDER, PACKAGES, name_of

MOST_FILES, MOST_LINES = 16, 320  # of a folder, besides __init__; of a file
FOLDERS = sorted({path.parent for path in MODULES.values()})


@cache
def imports(module: str) -> frozenset[str]:
    """All that a module imports, wherever in it: modules of ours, and top names of others."""
    return frozenset(imported_by(ast.parse(MODULES[module].read_text())))


def imported_by(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [name if name in MODULES else node.module for name in inner]
        else:
            continue
        for name in named:
            yield name if name.partition(".")[0] in PACKAGES else name.partition(".")[0]


def room_of(module: str) -> str:
    """The innermost room that holds a module."""
    while module not in ORDER:
        module = module.rpartition(".")[0]
        assert module, "each module lies in a room; add new ones to ROOMS"
    return module


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(PACKAGES)))
def test_imports_only_go_down(module: str) -> None:
    mine = ORDER.index(room_of(module))
    for other in imports(module) & MODULES.keys() - set(PACKAGES):
        assert ORDER.index(room_of(other)) <= mine, f"{module} imports {other}, which is above it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports(module) & MODULES.keys() - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_planted_import_is_seen_wherever_it_stands() -> None:
    inside = "def f():\n    from search.watch import status\n"
    guarded = "if TYPE_CHECKING:\n    import cluster.cli\n"
    assert set(imported_by(ast.parse(inside + guarded))) == {"search.watch.status", "cluster.cli"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: name_of(path / "__init__.py"))
def test_a_folder_says_what_it_is_for_and_is_no_hall(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert text is not None and 3 <= len(text.splitlines()) <= 6
    assert "mport" in text  # what may be imported from it, what it never imports
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) < MOST_FILES
    for path in files:
        assert len(path.read_text().splitlines()) <= MOST_LINES, path


def test_a_trial_knows_nothing_of_optuna_and_mlflow_and_only_its_actor_knows_ray() -> None:
    for module in MODULES:
        if module.startswith("trainable"):
            assert not imports(module) & {"optuna", "mlflow"}, module
            assert "ray" not in imports(module) or module.startswith("trainable.actor."), module


def test_only_execution_knows_ray_tune_and_only_the_engine_and_the_space_know_optuna() -> None:
    knowing = {
        "ray": ("search.execution.", "trainable.actor.", "cluster.remote.jobs"),
        "optuna": ("search.engine.", "search.spec.", "search.answer.insight"),
        "mlflow": ("search.tracking.", "search.takeaway.", "search.forecast.curves_mlflow"),
    }
    for library, rooms in knowing.items():
        for module in MODULES:
            assert library not in imports(module) or module.startswith(rooms), (library, module)


LIGHT = ("trainable.config", "search.spec.loading", "cluster.cli")
LOOKING = (
    *("search.watch.status", "search.watch.shown", "search.watch.operate", "search.watch.logs"),
    *("cluster.remote.located", "cluster.remote.steering", "cluster.remote.seen"),
)


@pytest.mark.parametrize("module", [*LIGHT, *LOOKING])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "numpy", "scipy")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
