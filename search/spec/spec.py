"""SearchSpec: the YAML that describes a search, strict and frozen. Imports no torch and no ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from search.spec.durations import Duration
from search.spec.shelves import SamplerName, SchedulerName
from search.spec.space import Space, settings
from trainable.base.shelf import Frozen, Listed
from trainable.config import TrialConfig, TrialSettings
from trainable.metrics import OBJECTIVES, ObjectiveName

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Word = Tag("a word")
OrAuto = Annotated[
    Annotated[Literal["auto"], Word] | Annotated[int, Field(ge=1), Tag("a number")],
    Discriminator(lambda given: "a word" if isinstance(given, str) else "a number"),
]
Seeds = Annotated[
    Annotated[Literal["auto"], Word] | Annotated[int, Field(ge=2), Tag("a number")],
    Discriminator(lambda given: "a word" if isinstance(given, str) else "a number"),
]
Baselines = Annotated[
    Annotated[Literal["default", "none"], Word] | Annotated[Listed[dict[str, Any]], Tag("a list")],
    Discriminator(lambda given: "a word" if isinstance(given, str) else "a list"),
]


class Objective(Frozen):
    metric: ObjectiveName = "val_loss"
    mode: Literal["min", "max"] = "min"

    @model_validator(mode="before")
    @classmethod
    def _natural_mode(cls, given: Any) -> Any:
        if isinstance(given, dict) and (best := OBJECTIVES.get(str(given.get("metric")))):
            return {"mode": best, **given}
        return given


# one objective, or several, of which the first leads: for a Pareto front
Objectives = Annotated[
    Annotated[Objective, Tag("one")]
    | Annotated[Listed[Objective], Field(min_length=1), Tag("a list")],
    Discriminator(lambda given: "a list" if isinstance(given, list | tuple) else "one"),
]


class SamplerConfig(Frozen):
    type: SamplerName = "tpe"
    seed: int = Field(0, ge=0)


class SchedulerConfig(Frozen):
    type: SchedulerName = "asha"
    # first rung; auto: max(warmup, steps / 16), as long as ranks there are seen to hold;
    # null: max(2 warmups, steps / 8), whatever they are worth
    grace_steps: OrAuto | None = "auto"
    reduction_factor: int = Field(2, ge=2)
    # at a rung before it decides; null: 3 others for the median rule, else as few as there are
    min_results: int | None = Field(None, ge=1)


class Budget(Frozen):
    """The first that is reached ends the search. Sums over all resumes."""

    trials: int = Field(40, ge=1)
    wall_clock: Duration = None
    gpu_hours: float | None = Field(None, gt=0)  # CPU-hours where trials use no GPU

    def plus(self, more: Mapping[str, float], used: Mapping[str, float]) -> Budget:
        """This budget with more on top; without a limit so far, counted from what is used."""
        limits = {
            key: (used[key] if (mine := getattr(self, key)) is None else mine) + amount
            for key, amount in more.items()
        }
        return self.model_copy(update=limits)


class Confirm(Frozen):
    per: Literal["optimizer", "search"] = "optimizer"
    top: int = Field(1, ge=1)
    splits: Literal["one", "each"] = "one"  # each: every seed cuts the data in its own way
    equal_time: bool = False  # train cut schedules again, for as long as the fastest took
    seeds: Seeds = "auto"  # auto: 3, 5, 8, 12, as long as something can be decided by more


class Resources(Frozen):
    """Of one trial; fractions are fine."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)
    workers: int = Field(1, ge=1)
    concurrent: OrAuto = "auto"


class Tracking(Frozen):
    uri: str | None = None  # null: MLFLOW_TRACKING_URI, else an SQLite store under the home
    experiment: Name | None = None  # null: the name of the spec


class SearchSpec(Frozen):
    """One search: what its trials share, what differs between them, and what it may cost."""

    name: Name
    trial: TrialSettings = TrialSettings()
    space: Space = Space()
    baselines: Baselines = "default"
    objective: Objectives = Objective()
    allocation: Literal["adaptive", "equal"] = "adaptive"
    sampler: SamplerConfig = SamplerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    budget: Budget = Budget()
    trial_timeout: Duration = None
    confirm: Confirm | None = None
    replicates: int = Field(1, ge=1)  # independent searches for each optimizer
    resources: Resources = Resources()
    notify: str | None = None  # a command to run when the search ends
    retries: int = Field(3, ge=0)  # of a trial whose process was lost
    tracking: Tracking = Tracking()
    storage: str | None = None  # null: under the home
    code: Listed[str] = ()  # folders of the user's own modules

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives; the first one leads."""
        return (self.objective,) if isinstance(self.objective, Objective) else self.objective

    @property
    def aims(self) -> list[tuple[str, str]]:
        """The metrics of the objectives, each with its mode."""
        return [(one.metric, one.mode) for one in self.objectives]

    @property
    def experiment(self) -> str:
        """The MLflow experiment that records the search."""
        return self.tracking.experiment or self.name

    @property
    def optimizers(self) -> list[str]:
        return list(self.space.optimizer)

    @property
    def threads(self) -> int:
        """CPU threads of a trial: its whole cores, at least one."""
        return max(1, int(self.resources.cpu))

    @property
    def device(self) -> str:
        """Of a trial. One that holds no GPU sees none, and its config means the same elsewhere."""
        name: str = self.trial.device
        return "cpu" if name == "auto" and not self.resources.gpu else name

    def resolve(self, chosen: dict[str, Any]) -> TrialConfig:
        """The config of a trial, from what a sampler chose by dimension."""
        given = {"threads": self.threads, "code": self.code, "device": self.device}
        return self.trial.resolve(**settings(chosen), **given)
