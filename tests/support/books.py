"""Histories made by hand, for tests of what is read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.specs import make_spec

from search.history.book import Book, Event
from search.history.folder import Folder
from search.history.log import FORMAT
from search.spec.spec import SearchSpec
from search.takeaway.files import write_export
from trainable.actor import checkpoint
from trainable.config import TrialConfig
from trainable.data.loading import load_data
from trainable.train import TrainState, train_until

STEPS, BATCH, REPORTS = 16, 8, 4
LRS = {"adam": (1e-4, 1e-3, 3e-3), "sgd": (0.01, 0.1, 0.3), "rmsprop": (1e-4, 1e-3, 2e-3)}


def curve(final: float, speed: float = 10.0, **last: float) -> list[dict[str, Any]]:
    """Reports of a training whose loss falls in a straight line to `final`."""
    reports = []
    for part in range(1, REPORTS + 1):
        loss = final + (REPORTS - part) * 0.1
        step = STEPS * part // REPORTS
        reports.append(
            {
                "step": step,
                "samples": step * BATCH,
                "train_loss": loss,
                "grad_norm": 1.0,
                "val_loss": loss,
                **{f"val_loss_q{q}": loss * (5 - q) / 2.5 for q in range(1, 5)},
                "weights": "raw",
                "steps_per_second": speed,
                "parameters": 100,
                "optimizer_bytes": 800,
                "peak_memory_bytes": 10**8,
                "diverged_at": None,
            }
        )
    reports[-1] |= last
    return reports


def with_test(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with a loss on the test part, a little above that on the validation part."""
    for report in reports:
        loss = report["val_loss"] + 0.01
        report |= {"test_loss": loss}
        report |= {f"test_loss_q{q}": loss * (5 - q) / 2.5 for q in range(1, 5)}
    return reports


class Writer:
    """Writes the events of a search into a Book."""

    def __init__(self, **keys: Any) -> None:
        names = {"optimizer": {name: {} for name in LRS}}
        self.spec: SearchSpec = make_spec(**({"space": names, "budget": {"trials": 9}} | keys))
        self.book, self.time = Book(), 1000
        self.events: list[Event] = []
        self.write("start", search="tiny-000000", spec=self.spec.model_dump(mode="json"))

    def write(self, event: str, **content: Any) -> None:
        self.time += 10
        self.events.append({"event": event, "time": self.time, "format": FORMAT, **content})
        self.book.apply(self.events[-1])

    def trial(
        self,
        optimizer: str,
        lr: float,
        reports: list[dict[str, Any]],
        state: str = "complete",
        seed: int = 0,
        source: int | None = None,
        **settings: Any,
    ) -> int:
        number = len(self.book.trials)
        chosen = {"optimizer": {"type": optimizer, "lr": lr}} | settings
        config = self.spec.trial.resolve(**chosen, seed=seed, threads=1).model_dump(mode="json")
        knobs = {f"{optimizer}.{k}": v for k, v in config["optimizer"].items() if k != "type"}
        dimensions = {
            "optimizer": optimizer,
            **{
                key: knobs[key] for key, _ in self.spec.space.dimensions(optimizer) if key in knobs
            },
            **{key: config[key] for key in ("warmup", "lr_schedule", "clip_norm")},
        }
        stage = "search" if source is None else "confirm"
        self.write(
            "ask",
            trial=number,
            stage=stage,
            source=source,
            chosen=dimensions,
            config=config,
            baseline=False,
        )
        self.write("begin", trial=number)
        for metrics in reports:
            self.write("report", trial=number, metrics=metrics)
        if state != "running":
            self.write("end", trial=number, state=state, why=None, again=False)
        return number

    def search(self, finals: dict[str, float]) -> dict[str, int]:
        """Three trials of each optimizer, the middle learning rate best; the winners' numbers."""
        best = {}
        for optimizer, final in finals.items():
            low, middle, high = LRS[optimizer]
            self.trial(optimizer, low, curve(final + 0.05))
            best[optimizer] = self.trial(optimizer, middle, curve(final))
            self.trial(optimizer, high, curve(final + 0.02)[:2], "pruned")
        return best

    def confirm(
        self,
        winners: dict[str, int],
        finals: dict[str, list[float]],
        speeds: dict[str, float] | None = None,
    ) -> None:
        """Confirm trials: a final loss for each seed, from seed 1."""
        for optimizer, losses in finals.items():
            source = winners[optimizer]
            lr, speed = LRS[optimizer][1], (speeds or {}).get(optimizer, 10.0)
            for seed, loss in enumerate(losses, start=1):
                self.trial(optimizer, lr, with_test(curve(loss, speed)), seed=seed, source=source)

    def finish(self, state: str = "complete") -> Book:
        self.write("finish", state=state, why=None)
        return self.book


CONFIRMED = {
    "adam": [0.200, 0.202, 0.199, 0.201],
    "sgd": [0.201, 0.202, 0.200, 0.201],
    "rmsprop": [0.250, 0.253, 0.248, 0.251],
}


def whole(**keys: Any) -> Book:
    """A finished search with a confirmation: adam and sgd tie, rmsprop is far behind."""
    writer = Writer(confirm={"seeds": 4}, **keys)
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED)
    return writer.finish()


def export_of(config: TrialConfig, tmp_path: Path) -> tuple[TrainState, Path]:
    """A training in full, and the export of a search that had it as its one trial."""
    writer = Writer()
    writer.trial("adam", 1e-3, curve(0.5))
    trial, folder = writer.book.trials[0], Folder(tmp_path / "tiny-000000")
    trial.config = config.model_dump(mode="json")
    state = TrainState(config, load_data(config.dataset))
    train_until(state, config.samples)
    checkpoint.save(state, folder.trial(0) / checkpoint.NAME, None)
    write_export(folder, writer.book, trial, tmp_path / "export")
    return state, tmp_path / "export"
