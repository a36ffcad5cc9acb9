"""Does the report reach what is known? Whole searches, for minutes: `make known-results`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
from support.paths import SPECS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(7200),
    pytest.mark.skipif("KNOWN_RESULTS" not in os.environ, reason="minutes: make known-results"),
]

NOT_SHOWN = ("as good", "undecided")


def answer_of(name: str) -> dict[str, Any]:
    """Run the search of a spec, and read its report."""
    command = [sys.executable, "-m", "cluster.cli"]
    subprocess.run([*command, "run", str(SPECS / f"{name}.yaml")], check=True)
    shown = [*command, "report", name, "-o", "json"]
    done = subprocess.run(shown, check=True, capture_output=True, text=True)
    content: dict[str, Any] = json.loads(done.stdout)
    assert content["state"] == "complete" and content["unstable"] == []
    return content


def verdict(content: dict[str, Any], first: str, second: str) -> str:
    """What the report says of the first against the second; a pair is said once, best first."""
    said = {(v["a"], v["b"]): v["verdict"] for v in content["verdicts"]}
    turned = {"better": "worse", "worse": "better"}
    if (first, second) in said:
        return str(said[first, second])
    return turned.get(said[second, first], said[second, first])


def test_the_published_direction_is_found_at_a_small_budget() -> None:
    content = answer_of("known-results")
    for worse in ("rmsprop", "sgd"):
        assert verdict(content, "muon", worse) == "better"
    assert verdict(content, "adam", "adamw") in NOT_SHOWN
    means = {name: row["confirmed"]["mean"] for name, row in content["optimizers"].items()}
    assert max(means["muon"], means["soap"]) < min(means["adam"], means["adamw"])
    assert max(means["adam"], means["adamw"]) < min(means["sgd"], means["rmsprop"])
    assert content["before"]["gain"] > 0.2  # Adam at 1e-4 is far behind its tuned self


def test_no_winner_is_declared_where_tuned_optimizers_are_alike() -> None:
    content = answer_of("breast-cancer")
    for first, second in combinations(content["optimizers"], 2):
        assert verdict(content, first, second) in NOT_SHOWN
    assert content["before"]["gain"] > 0.05  # and yet the untuned default is told apart
