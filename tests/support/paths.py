"""Where things lie in a checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "search" / "specs"
BENCH = ROOT / "tests" / "bench"
