"""The device that a trial trains on, and its memory."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import torch

IN_TENSORS = 0.95  # of a trial's share of a GPU; CUDA itself takes some hundred MB of each process


def pick_device(name: str) -> torch.device:
    """The device that `name` means on this machine; `auto` is a GPU of CUDA, or else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(name: str) -> None:
    """Raises ValueError where this machine has no device of that name."""
    there = {
        "cuda": torch.cuda.is_available() and torch.cuda.device_count() > 0,
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(name, True):
        raise ValueError(
            f"trial.device: torch finds no {name} device on this machine; want auto or cpu"
        )


def limit_memory(share: float) -> None:
    """Keep to a share of the GPU, so that a trial which needs more fails alone."""
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share * IN_TENSORS)


def settle() -> None:
    """Keep what is imported out of the garbage collector's sight; once, before the first training.

    It would walk through all of it, a quarter second each time, at every change of trials.
    """
    import torch._dynamo  # noqa: F401  # with the first optimizer it would come anyway

    gc.freeze()


def free_memory() -> None:
    """Give back what an ended training held, so that the next one can have it all."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
