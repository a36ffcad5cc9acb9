"""What is told when a cluster does not answer as it should."""

from __future__ import annotations

import socket

import pytest

from search.execution import dashboard
from search.execution.dashboard import Dashboard, Gone


def test_a_node_that_lost_its_power_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard asks it for a job's log, and waits for an answer that never comes."""
    monkeypatch.setattr(dashboard, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Gone, match=r"no answer in 0\.1 seconds"):
            Dashboard(url, None).logs("some-job")
