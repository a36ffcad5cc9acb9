"""A search whose driver is killed ends as if it had not been."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.killing import check_nothing_lost, search_with_kills


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_kills_of_the_driver_lose_nothing(tmp_path: Path) -> None:
    folder = search_with_kills(tmp_path / "home", kills=2, seed=0)
    check_nothing_lost(tmp_path / "home", folder)
