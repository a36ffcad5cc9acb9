"""TrialConfig: all that one trial is told. Imports no torch and no ray."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from trainable.base.shelf import Frozen, ImportString, Listed
from trainable.data.shelf import Augmentation, DatasetConfig, Digits
from trainable.diffusion.config import Diffusion
from trainable.models.shelf import Adapters, ModelConfig, UNet
from trainable.optimizers.lr_schedules import LrSchedule
from trainable.optimizers.shelf import OptimizerConfig

VALIDATION_SHARE = 0.04  # of the training time; a step costs about three forward passes
FEWEST, MAX_VALIDATION_EXAMPLES = 32, 4096
FINAL_SHARE, FINAL_EXAMPLES = 0.05, 4096  # of the training time; a training's noise is 1 % then
QUALITY_SHARE = 0.04  # of the training time, for sampling; features and distances add a little
QUALITY_SAMPLES = 500
QUALITY_STEPS = (10, 40)  # of the solver: at least, at most


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    """What refuses a text that the pattern does not match, in words."""

    def check(given: str) -> str:
        if not pattern.fullmatch(given):
            raise ValueError(f"expected {expected}, got {given!r}")
        return given

    return AfterValidator(check)


EMA = re.compile(r"(power-)?0?\.\d+")
EmaName = Annotated[  # YAML reads 0.999 as a number
    str,
    BeforeValidator(lambda given: str(given) if isinstance(given, float) else given),
    _matching(
        EMA,
        "a decay below 1 such as 0.999, or power-0.75, whose decay at step n is 1 - (1 + n)^-0.75",
    ),
    Field(json_schema_extra={"type": ["string", "number"], "pattern": f"^{EMA.pattern}$"}),
]


class Steps(Frozen):
    """A length in steps, where a plain number would be a fraction of the budget."""

    steps: int = Field(ge=0)


Warmup = Annotated[
    Annotated[float, Field(ge=0, le=1), Tag("fraction")] | Annotated[Steps, Tag("steps")],
    Discriminator(lambda given: "steps" if isinstance(given, dict | Steps) else "fraction"),
]
FEATURE_FILES = ("onnx:", "torchscript:")  # before the path of a file that has them
FEATURES = re.compile(r"random|kmeans|labels|(onnx|torchscript):.+|[\w.]+:\w+")
Features = Annotated[
    str,
    _matching(
        FEATURES,
        "random, kmeans, labels, onnx:FILE, torchscript:FILE or package.module:attribute",
    ),
]


class Quality(Frozen):
    """What is measured on samples when a trial completes (trainable/quality/)."""

    samples: int | None = Field(None, ge=16)  # null: what QUALITY_SHARE pays for
    steps: int | None = Field(None, ge=1)  # of the solver
    # null: random for the discrepancy, labels or kmeans for distance and coverage
    features: Features | None = None


class TrialSettings(Frozen):
    """What all trials of a search share: the section `trial:` of a spec."""

    dataset: DatasetConfig = Digits()
    model: ModelConfig = UNet()
    diffusion: Diffusion = Diffusion()
    batch_size: int = Field(64, ge=1)
    steps: int = Field(1000, ge=1)  # the full budget of one trial
    micro_batch: int | None = Field(None, ge=1)  # examples at once; null: the whole batch
    report_every: int = Field(50, ge=1)  # steps between validations
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False  # torch.compile; what one trial compiled, the next one reuses
    ema: Listed[EmaName] = ("power-0.75", "power-0.67", "0.999")  # tracked together
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    init: str | None = None  # safetensors weights to start from
    freeze: Listed[str] = ()  # patterns of names of weights that stay as they are
    adapters: Adapters | None = None
    augment: Augmentation | None = None
    loss: ImportString | None = None  # a process of the user's own
    # whole quartiles; null: what costs 4 % of the training
    validation_examples: int | None = Field(None, ge=4, multiple_of=4)
    # pairs of an example and noise that a finished training is measured on; null: 4096, or what
    # costs 5 % of the training; 0: no more than at other reports
    final_examples: int | None = Field(None, ge=0)
    quality: Quality | None = Quality()  # null: none is measured

    @model_validator(mode="after")
    def check_adapters(self) -> Self:
        if self.adapters is not None and self.init is None:
            raise ValueError("adapters change weights that are there: give init, too")
        return self

    @property
    def samples(self) -> int:
        """The full budget in samples seen."""
        return self.steps * self.batch_size

    def resolve(self, **chosen: Any) -> TrialConfig:
        """The config of one trial, from these settings and what was chosen for it.

        A chosen batch size keeps the budget in samples: steps and report_every follow it. The
        validation examples do not depend on it, so that all trials are compared on the same ones.
        """
        batch_size = chosen.get("batch_size", self.batch_size)
        if not isinstance(batch_size, int) or batch_size < 1:  # told when all is validated
            batch_size = self.batch_size
        examples = self.validation_examples or self._affordable_examples()
        shared = self.model_dump() | {
            "batch_size": batch_size,
            "steps": math.ceil(self.samples / batch_size),
            "report_every": math.ceil(self.report_every * self.batch_size / batch_size),
            "validation_examples": examples,
            "final_examples": self._final_examples(examples),
            "quality": self.affordable_quality(),
        }
        return TrialConfig.model_validate(shared | chosen)

    def _affordable_examples(self) -> int:
        """Validation examples whose forward passes cost VALIDATION_SHARE of the training."""
        forward_passes = VALIDATION_SHARE * 3 * self.report_every * self.batch_size
        examples = int(forward_passes / (1 + len(self.ema)))  # the raw weights, and each EMA
        return max(FEWEST, min(examples, MAX_VALIDATION_EXAMPLES) // 4 * 4)  # whole quartiles

    def _final_examples(self, examples: int) -> int:
        """Pairs that a finished training is measured on, in rounds of so many examples."""
        if (asked := self.final_examples) is not None:
            return math.ceil(asked / examples) * examples
        affordable = int(FINAL_SHARE * 3 * self.samples) // examples
        return examples * max(1, min(affordable, math.ceil(FINAL_EXAMPLES / examples)))

    def affordable_quality(self) -> Quality | None:
        """How much quality is measured: with steps for some 200 samples, then up to 500 samples.

        What is not given follows from QUALITY_SHARE of the training's forward passes; None where
        that is too little to measure anything.
        """
        asked, diffusion = self.quality, self.diffusion
        if asked is None or self.loss is not None:  # of an own process we can't draw
            return None
        solver = diffusion.solver or ("heun" if diffusion.prediction == "edm" else None)
        per_step = 2 if solver == "heun" else 1
        forward_passes = QUALITY_SHARE * 3 * self.samples / per_step
        few, many = QUALITY_STEPS
        steps = asked.steps or max(few, min(many, int(forward_passes / 200)))
        samples = asked.samples or min(QUALITY_SAMPLES, int(forward_passes / steps))
        if samples < 16:
            return None
        return asked.model_copy(update={"samples": samples, "steps": steps})


class TrialConfig(TrialSettings):
    """One trial: the shared settings, and the values that the search chose for it."""

    optimizer: OptimizerConfig
    warmup: Warmup = 0.0  # a fraction of the budget, or {steps: n}
    lr_schedule: LrSchedule = "constant"
    clip_norm: float | None = Field(None, gt=0)  # largest norm of the gradient; null: no clipping
    clip_value: float | None = Field(None, gt=0)  # largest absolute value in the gradient
    clip_agc: float | None = Field(None, gt=0)  # largest ratio of a unit's gradient to its weights
    code: Listed[str] = ()  # folders of the user's own modules
    final_examples: int | None = Field(0, ge=0)  # a config without it was measured as at a report
    split: int | None = Field(
        None, ge=0
    )  # seed of the three parts of the data; null: those of all
    threads: int | None = Field(None, ge=1)  # of the CPU; part of what makes a number repeatable

    @model_validator(mode="after")
    def check_lr_schedule(self) -> Self:
        if self.optimizer.constant_lr and self.lr_schedule != "constant":
            raise ValueError(
                f"{self.optimizer.type} needs lr_schedule constant, got {self.lr_schedule}"
            )
        return self

    @property
    def warmup_steps(self) -> int:
        if isinstance(self.warmup, Steps):
            return self.warmup.steps
        return round(self.warmup * self.steps)
