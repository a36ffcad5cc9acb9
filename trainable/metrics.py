"""What a trial measures about itself: validation loss, running means, divergence, memory."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch
from torch import Tensor

from trainable.datasets import Part
from trainable.diffusion import Network, Process, loss
from trainable.gang import Gang
from trainable.tensors import scaled, view

QUARTILES = 4
VALIDATION_SEED = 20_110  # the same noise for every trial and every seed
TEST_SEED = 20_111  # the test part's own noise
TEST_METRICS = ("test_loss", *(f"test_loss_q{q}" for q in range(1, QUARTILES + 1)))
# what a report holds, in the order of a trial's record
REPORT_METRICS = (
    "train_loss",
    "grad_norm",
    "clipped",  # share of the steps since the last report
    "update_ratio",
    "lr",
    "val_loss",
    *(f"val_loss_q{q}" for q in range(1, QUARTILES + 1)),
    *TEST_METRICS,  # of confirm trials
    "samples",
    "steps_per_second",
)
QUALITY_METRICS = tuple(
    f"quality_{name}{of}" for of in ("", "_real", "_noise") for name in ("mmd", "fd", "coverage")
)
# kept once, when the trial ends
END_METRICS = (
    "optimizer_bytes",
    "peak_memory_bytes",
    "loss_spikes",
    *(f"grad_variance_q{q}" for q in range(1, QUARTILES + 1)),
    "diverged_at",
    *QUALITY_METRICS,
)


class Validation:
    """Held-out examples with fixed noise at stratified noise levels, a quarter in each quartile.

    Validation decides a search; on the test part, with another seed, the winners are confirmed.

    With more places than examples, examples come again with other noise and levels. The workers of
    a gang take its batches in turn, so its losses are those of one worker to the last bit.
    """

    def __init__(
        self,
        process: Process,
        part: Part,
        places: int,
        batch_size: int,
        device: torch.device,
        seed: int = VALIDATION_SEED,
        gang: Gang | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        index = torch.arange(places) % len(part.x)
        strata = torch.arange(places) / places + torch.rand(places, generator=generator) / places
        noise = torch.randn(places, *part.x.shape[1:], generator=generator)
        order = torch.randperm(places, generator=generator)  # level and example are unrelated
        self.x0 = scaled(view(part.x)[index][order].to(device))
        self.labels = None if part.labels is None else view(part.labels)[index][order]
        self.u, self.noise = strata.to(device), noise.to(device)
        self.process, self.batch_size, self.device = process, batch_size, device
        self.gang = gang or Gang()

    @torch.no_grad()
    def losses(self, network: Network) -> list[float]:
        """The mean loss, and that of each quartile from the lowest noise levels to the highest."""
        losses = torch.zeros(len(self.u), device=self.device)
        starts = range(0, len(self.u), self.batch_size)
        for start in starts[self.gang.rank :: self.gang.size]:
            cut = slice(start, start + self.batch_size)
            losses[cut] = self.each(network, cut)
        by_quartile = self.gang.total(losses).double().view(QUARTILES, -1).mean(1)
        return [by_quartile.mean().item(), *by_quartile.tolist()]

    def each(self, network: Network, cut: slice) -> Tensor:
        """The loss of each example in a cut of the places, which rise in their noise level."""
        labels = None if self.labels is None else self.labels[cut].to(self.device)
        return loss(self.process, network, self.x0[cut], self.noise[cut], self.u[cut], labels)


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
