"""What CONTRIBUTING promises: one entry on one shelf, in under ten lines, is tested at once.

An entry of each kind is added to a copy of the code, where the contract tests of the shelves run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
from support.paths import ROOT

MOST_LINES = 9
RESULT = re.compile(r"::.* (PASSED|FAILED|ERROR|SKIPPED)")


class Added(NamedTuple):
    """An entry: where its lines go, and which test meets it by which name."""

    file: str
    lines: str
    before: str  # the lines come before this text
    listed: tuple[str, str]  # and this name on the shelf becomes those
    test: str
    name: str


ENTRIES = [
    Added(
        "trainable/optimizers/classical.py",
        '''class Adamax(AdamLike):
    """Kingma & Ba 2015, section 7.1: Adam with the infinity norm."""

    target: ClassVar[str] = "torch.optim:Adamax"
    state_bytes: ClassVar[Bytes] = 8.0
    ranges: ClassVar[dict[str, Any]] = {"lr": log(1e-4, 1e-1)}
    published: ClassVar[dict[str, Any]] = {"optimizer": {"lr": 2e-3}}
    type: Literal["adamax"] = "adamax"
''',
        "CLASSICAL = (",
        ("CLASSICAL = (", "CLASSICAL = (Adamax, "),
        "tests/trainable/optimizers/test_shelf.py",
        "adamax",
    ),
    Added(
        "trainable/data/shelf.py",
        '''class Corners(Dataset):
    """The corners of a simplex: each example has one coordinate of 1."""

    target: ClassVar[str] = "numpy:eye"
    type: Literal["corners"] = "corners"
    N: int = Field(64, ge=8)
''',
        "DATASETS = by_name(",
        ("DATASETS = by_name(", "DATASETS = by_name(Corners, "),
        "tests/trainable/data/test_contract.py",
        "corners",
    ),
    Added(
        "trainable/models/shelf.py",
        '''class Narrow(MLP):
    """The MLP under another name, and narrower."""

    type: Literal["narrow"] = "narrow"  # type: ignore[assignment]
    width: int = Field(32, ge=8, multiple_of=2)
''',
        "def model_tag",
        ("MODELS = by_name(", "MODELS = by_name(Narrow, "),
        "tests/trainable/models/test_shelf.py",
        "narrow",
    ),
    Added(
        "search/spec/shelves.py",
        '    "nsga2": SamplerEntry("optuna.samplers:NSGAIISampler", "Deb et al. 2002"),\n',
        '    "random": SamplerEntry',
        ("", ""),
        "tests/search/engine/test_shelves.py",
        "nsga2",
    ),
    Added(
        "search/spec/shelves.py",
        '    "patient": SchedulerEntry("search.engine.scheduler:hyperband", "Li et al. 2018"),\n',
        '    "median": SchedulerEntry',
        ("", ""),
        "tests/search/engine/test_shelves.py",
        "patient",
    ),
    Added(
        "trainable/metrics.py",
        '    "rate": Metric("trainable.report:last_lr"),\n',
        '    "samples": Metric(),',
        ("", ""),
        "tests/trainable/test_metrics.py",
        "rate",
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A line for each test that met an added entry, in a copy of the code and its tests."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", ".venv*", "*.csv", "*.zip", "*.png")
    for name in ("trainable", "search", "cluster", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for entry in ENTRIES:
        path = folder / entry.file
        text = path.read_text()
        assert text.count(entry.before) == 1 and entry.listed[0] in text
        text = text.replace(entry.before, f"{entry.lines}\n\n{entry.before}", 1)
        path.write_text(text.replace(*entry.listed, 1) if entry.listed[0] else text)
    names = " or ".join(entry.name for entry in ENTRIES)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", names]
    tests = sorted({entry.test for entry in ENTRIES})
    done = subprocess.run([*command, *tests], cwd=folder, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if RESULT.search(line)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_short(entry: Added) -> None:
    assert len(entry.lines.strip().splitlines()) + bool(entry.listed[0]) <= MOST_LINES


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_contract_of_its_shelf_meets_an_added_entry(entry: Added, results: list[str]) -> None:
    mine = [line for line in results if line.startswith(entry.test) and entry.name in line]
    assert mine and all("PASSED" in line for line in mine), mine
