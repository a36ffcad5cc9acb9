"""The metric shelf: what a trial reports, by name, in the order of its record. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

QUARTILES = 4
Best = Literal["min", "max"]  # which values of a metric are better


@dataclass(frozen=True)
class Metric:
    """One number of a trial.

    `measure` names a function of the training ("package.module:function", called with its
    TrainState at each report) that gives the number, or None where there is none yet. Metrics
    without it come several at once, from a validation or from samples.
    """

    measure: str | None = None
    best: Best | None = None  # set for those that can be an objective
    at_end: bool = False  # recorded once, when the trial ends, not at each report


def _quartiles(name: str, metric: Metric) -> dict[str, Metric]:
    return {f"{name}_q{q}": metric for q in range(1, QUARTILES + 1)}


_TEST = {"test_loss": Metric(), **_quartiles("test_loss", Metric())}
_DISTANCES: dict[str, Best] = {"mmd": "min", "fd": "min", "coverage": "max"}
_QUALITY = {  # of samples; beside them the same for real examples and for noise, as references
    f"quality_{name}{of}": Metric(best=None if of else best, at_end=True)
    for of in ("", "_real", "_noise")
    for name, best in _DISTANCES.items()
}
METRICS: dict[str, Metric] = {
    "train_loss": Metric(),
    "grad_norm": Metric(),
    "clipped": Metric(),  # share of the steps since the last report
    "update_ratio": Metric("trainable.report:last_update_ratio"),
    "lr": Metric("trainable.report:last_lr"),
    "val_loss": Metric(best="min"),
    **_quartiles("val_loss", Metric(best="min")),
    **_TEST,  # of confirm trials
    # of a finished training, measured on more: the standard error, and what the few of each report
    # say of it, which its curve leads to
    **{
        f"{part}_loss_{of}": Metric(at_end=True)
        for part in ("val", "test")
        for of in ("se", "few")
    },
    "samples": Metric(),
    "optimizer_bytes": Metric("trainable.report:optimizer_bytes", best="min", at_end=True),
    "peak_memory_bytes": Metric("trainable.report:peak_memory_bytes", best="min", at_end=True),
    "steps_per_second": Metric("trainable.report:steps_per_second", best="max"),
    "loss_spikes": Metric(at_end=True),
    **_quartiles("grad_variance", Metric(at_end=True)),
    "diverged_at": Metric(at_end=True),
    **_QUALITY,
}
TEST_METRICS, QUALITY_METRICS = tuple(_TEST), tuple(_QUALITY)
REPORT_METRICS = tuple(name for name, metric in METRICS.items() if not metric.at_end)
END_METRICS = tuple(name for name, metric in METRICS.items() if metric.at_end)
OBJECTIVES = {name: metric.best for name, metric in METRICS.items() if metric.best is not None}
if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[tuple(OBJECTIVES)]
