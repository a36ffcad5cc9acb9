"""A config as flags of Hugging Face diffusers' train_unconditional.py, and what has no flag."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainable.config import TrialConfig

CLIP_THERE = 1.0  # the script clips every gradient to this norm
TIMESTEPS = 1000
SCHEDULES = {"constant": "constant", "linear": "linear", "cosine": "cosine"}
PREDICTIONS = {"eps": "epsilon", "x0": "sample"}
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def hf_args(config: TrialConfig, train_examples: int) -> tuple[list[str], list[str]]:
    """The flags, and a line for everything that the script can't be told.

    The script counts epochs, each of ceil(examples / batch) steps.
    """
    return list(_flags(config, train_examples)), list(_missing(config, train_examples))


def hf_text(config: TrialConfig, train_examples: int) -> str:
    """The command, then what does not map as comments."""
    flags, missing = hf_args(config, train_examples)
    command = " \\\n  ".join(["accelerate launch train_unconditional.py", *flags])
    notes = "\n".join(f"# - {line}" for line in missing)
    return (
        "# Add --train_data_dir or --dataset_name, and --resolution.\n"
        f"{command}\n\n# What train_unconditional.py can't be told:\n{notes}\n"
    )


def _epochs(config: TrialConfig, examples: int) -> int:
    return math.ceil(config.steps / math.ceil(examples / config.batch_size))


def _flags(config: TrialConfig, examples: int) -> Iterator[str]:
    optimizer, knobs = config.optimizer, config.optimizer.knobs()
    yield f"--train_batch_size={config.batch_size}"
    yield f"--num_epochs={_epochs(config, examples)}"
    yield f"--learning_rate={optimizer.lr!r}"
    schedule = SCHEDULES.get(config.lr_schedule)
    if schedule == "constant" and config.warmup_steps:
        schedule = "constant_with_warmup"
    if schedule:
        yield f"--lr_scheduler={schedule}"
    yield f"--lr_warmup_steps={config.warmup_steps}"
    if _is_adamw(config):
        yield f"--adam_beta1={knobs['beta1']!r}"
        yield f"--adam_beta2={knobs['beta2']!r}"
        yield f"--adam_weight_decay={knobs['weight_decay']!r}"
        yield f"--adam_epsilon={knobs['eps']!r}"
    if power := _ema_power(config):
        yield "--use_ema"
        yield f"--ema_power={power}"
    if config.precision == "bf16":
        yield "--mixed_precision=bf16"
    diffusion = config.diffusion
    if diffusion.prediction in PREDICTIONS:
        yield f"--prediction_type={PREDICTIONS[diffusion.prediction]}"
        yield f"--ddpm_num_steps={TIMESTEPS}"
        yield f"--ddpm_beta_schedule={BETAS[diffusion.noise_schedule]}"


def _missing(config: TrialConfig, examples: int) -> Iterator[str]:
    optimizer = config.optimizer
    if not _is_adamw(config):
        yield f"optimizer {optimizer.type} with {optimizer.knobs()}: the script has AdamW only"
    if config.lr_schedule not in SCHEDULES:
        yield f"lr_schedule {config.lr_schedule}: the script falls back to its default, cosine"
    if config.lr_schedule in ("linear", "cosine") and config.warmup_steps:
        yield "the schedule there decays from the end of the warmup, here from the first step"
    if config.clip_norm != CLIP_THERE:
        yield f"clip_norm {config.clip_norm}: the script always clips at {CLIP_THERE}"
    if config.diffusion.prediction not in PREDICTIONS:
        yield f"diffusion.prediction {config.diffusion.prediction}"
    if config.diffusion.prediction == "x0":
        yield "the loss for x0 (sample): the script weights it by the signal-to-noise ratio"
    if len(config.ema) != 1 or not _ema_power(config):
        yield f"ema {', '.join(config.ema)}: the script tracks one, by a power rule"
    steps = _epochs(config, examples) * math.ceil(examples / config.batch_size)
    if steps != config.steps:
        yield f"steps {config.steps}: whole epochs make {steps}"
    yield f"model {config.model.model_dump()}: give --model_config_name_or_path"
    yield f"dataset {config.dataset.model_dump()}, and that a part of it was held out"
    yield f"seed {config.seed}: the script sets none"


def _is_adamw(config: TrialConfig) -> bool:
    """AdamW, or Adam without weight decay, which is the same."""
    optimizer = config.optimizer
    decay = optimizer.knobs().get("weight_decay")
    return optimizer.type == "adamw" or (optimizer.type == "adam" and decay == 0)


def _ema_power(config: TrialConfig) -> str | None:
    """The power of the first EMA that follows a power rule."""
    names = [name.removeprefix("power-") for name in config.ema if name.startswith("power-")]
    return names[0] if names else None
