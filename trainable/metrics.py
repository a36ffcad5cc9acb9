"""The metric shelf: what a trial reports, by name, in the order of its record. Without torch."""

from __future__ import annotations

QUARTILES = 4
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
