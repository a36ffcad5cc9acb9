"""Tables for the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search.watch import tables
from search.watch.tables import show_rows


@pytest.mark.parametrize("many", [1, 100])
def test_a_table_of_many_rows_is_plain_and_shows_the_same(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MANY", many)
    console = Console(file=(file := io.StringIO()), width=80)
    rows = [["adam-0", "complete", "[b]"], ["rmsprop-10000", "pruned", "-"]]
    show_rows(console, ("trial", "state", "peak\nbytes"), rows)
    shown = file.getvalue().splitlines()
    for row in rows:
        (line,) = [line for line in shown if line.split() == row]
        assert line.index(row[1]) == line.index(row[0]) + len("rmsprop-10000") + 2
    assert ("─" in file.getvalue()) == (many == 100)
