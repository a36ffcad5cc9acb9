"""What is watched while a training runs: gradients that are not finite, and memory."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch
from torch import Tensor


class DivergenceWatch:
    """Tells whether a step met a gradient that is not finite, without making the GPU wait.

    On CUDA the answer is copied beside the computation and read one step late.
    """

    def __init__(self, device: torch.device) -> None:
        self.late = device.type == "cuda"
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def diverged(self, grad_norm: Tensor) -> bool:
        """Whether this step's gradient norm (on CUDA: the step's before it) is not finite."""
        if not self.late:
            return not math.isfinite(grad_norm.item())
        answer = self.flush()
        copy = torch.empty((), pin_memory=True)
        copy.copy_(grad_norm.detach(), non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = copy, event
        return answer

    def flush(self) -> bool:
        """Wait for the answer that is still on its way, if there is one."""
        if self._pending is None:
            return False
        copy, event = self._pending
        self._pending = None
        event.synchronize()
        return not math.isfinite(copy.item())


class PeakMemory:
    """The most memory used since this was made.

    On CUDA the bytes of tensors on the device; elsewhere the resident set of the process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        with contextlib.suppress(OSError):  # Linux resets the high-water mark on request
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status")
        if status.exists():
            peak = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
            return int(peak.split()[1]) * 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
