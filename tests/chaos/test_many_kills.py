"""Fifty kills of the driver at random moments; minutes to an hour, so not part of `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.killing import check_nothing_lost, search_with_kills

SEARCHES, KILLS = 10, 5


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(SEARCHES))
def test_kills_lose_nothing(seed: int, tmp_path: Path) -> None:
    folder = search_with_kills(tmp_path / "home", kills=KILLS, seed=seed)
    check_nothing_lost(tmp_path / "home", folder)
