"""Does the report reach what is known? A whole search, for minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.verdict import NOT_SHOWN

SPEC = Path(__file__).parent.parent / "search" / "specs" / "known-results.yaml"
ASKED = "KNOWN_RESULTS" in os.environ


@pytest.mark.ray
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not ASKED, reason="five idle minutes on two cores: KNOWN_RESULTS=1 runs it")
def test_the_published_direction_is_found_at_a_small_budget(home: Path) -> None:
    command = [sys.executable, "-m", "cluster.cli"]
    subprocess.run([*command, "run", str(SPEC)], check=True)
    shown = subprocess.run(
        [*command, "report", "known-results", "-o", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    content = json.loads(shown.stdout)
    said = {(v["a"], v["b"]): v["verdict"] for v in content["verdicts"]}
    said |= {(b, a): verdict for (a, b), verdict in said.items() if verdict == NOT_SHOWN}
    for worse in ("adam", "adamw", "rmsprop", "sgd"):
        assert said["muon", worse] == "better"
    for worse in ("rmsprop", "sgd"):
        assert said["soap", worse] == said["adamw", worse] == "better"
    assert said["adam", "adamw"] == NOT_SHOWN
    means = {name: row["confirmed"]["mean"] for name, row in content["optimizers"].items()}
    assert means["soap"] < means["adamw"]  # its direction; five seeds do not show it
    assert content["before"]["gain"] > 0.2  # Adam at 1e-4 is far behind its tuned self
