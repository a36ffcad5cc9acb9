"""The report of a search whose driver is gone: its own data is loaded again, code and all."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.specs import SMALL, make_spec

from search.takeaway.publish import log_dataset

DATA = """
import numpy as np

def load():
    return np.random.default_rng(0).uniform(-1, 1, (40, 1, 8, 8)).astype("float32")
"""


def test_own_data_is_found_by_a_process_that_did_not_run_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "reported_data.py").write_text(DATA)
    spec = make_spec(
        code=[str(tmp_path)], trial=SMALL | {"dataset": {"type": "reported_data:load"}}
    )
    told: list[Any] = []
    client = SimpleNamespace(log_inputs=lambda run, datasets: told.extend(datasets))
    parent = SimpleNamespace(inputs=None, info=SimpleNamespace(run_id="run"))
    log_dataset(client, parent, spec, None)  # type: ignore[arg-type]
    assert [entry.tags[0].value for entry in told] == ["training", "validation", "test"]
