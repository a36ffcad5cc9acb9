"""The memory of a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainable.base.device import PeakMemory

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's counters")
def test_peak_memory_is_what_was_used_since_it_began() -> None:
    def use(megabytes: int) -> None:
        np.ones(megabytes << 17)  # 8 bytes each

    use(256)
    memory = PeakMemory(CPU)
    before = memory.bytes()
    use(64)
    assert 48 << 20 < memory.bytes() - before < 160 << 20
