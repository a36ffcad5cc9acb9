"""A config as flags of Hugging Face diffusers' train_unconditional.py, and what has no flag."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainable.config import TrialConfig
from trainable.data.shelf import Folder

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
    resolution = "" if _folder(config) else ", and --resolution"
    command = " \\\n  ".join(["accelerate launch train_unconditional.py", *flags])
    notes = "\n".join(f"# - {line}" for line in missing)
    return (
        f"# Add --train_data_dir or --dataset_name{resolution}.\n"
        f"{command}\n\n# What train_unconditional.py can't be told:\n{notes}\n"
    )


def _at_once(config: TrialConfig) -> int:
    """Examples of one forward pass there."""
    return min(config.micro_batch or config.batch_size, config.batch_size)


def _accumulated(config: TrialConfig) -> int:
    """Forward passes of a step there."""
    return math.ceil(config.batch_size / _at_once(config))


def _steps_per_epoch(config: TrialConfig, examples: int) -> int:
    return math.ceil(math.ceil(examples / _at_once(config)) / _accumulated(config))


def _epochs(config: TrialConfig, examples: int) -> int:
    return math.ceil(config.steps / _steps_per_epoch(config, examples))


def _folder(config: TrialConfig) -> Folder | None:
    return config.dataset if isinstance(config.dataset, Folder) else None


def _flags(config: TrialConfig, examples: int) -> Iterator[str]:
    optimizer, knobs = config.optimizer, config.optimizer.knobs()
    if folder := _folder(config):
        yield f"--resolution={folder.size}"
        yield "--center_crop"
    if config.augment is not None and config.augment.flip:
        yield "--random_flip"
    yield f"--train_batch_size={_at_once(config)}"
    if _accumulated(config) > 1:
        yield f"--gradient_accumulation_steps={_accumulated(config)}"
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
    yield from _without_flag(config)
    if config.diffusion.prediction not in PREDICTIONS:
        yield f"diffusion.prediction {config.diffusion.prediction}"
    if config.diffusion.prediction == "x0":
        yield "the loss for x0 (sample): the script weights it by the signal-to-noise ratio"
    if len(config.ema) != 1 or not _ema_power(config):
        yield f"ema {', '.join(config.ema)}: the script tracks one, by a power rule"
    if config.batch_size % _at_once(config):
        there = _at_once(config) * _accumulated(config)
        yield f"batch_size {config.batch_size}: passes of {_at_once(config)} make {there} there"
    steps = _epochs(config, examples) * _steps_per_epoch(config, examples)
    if steps != config.steps:
        yield f"steps {config.steps}: whole epochs make {steps}"
    yield f"model {config.model.model_dump()}: give --model_config_name_or_path"
    yield f"dataset {config.dataset.model_dump()}, and that a part of it was held out"
    yield f"seed {config.seed}: the script sets none"


def _without_flag(config: TrialConfig) -> Iterator[str]:
    """What is set here that the script knows nothing of."""
    for name in ("clip_value", "clip_agc", "init", "freeze", "loss"):
        if value := getattr(config, name):
            told = ", ".join(value) if isinstance(value, tuple) else value
            yield f"{name} {told}"
    if config.diffusion.min_snr_gamma is not None:
        yield f"diffusion.min_snr_gamma {config.diffusion.min_snr_gamma:g}"
    if config.augment is not None and config.augment.crop:
        yield f"augment.crop {config.augment.crop}"
    if config.adapters is not None:
        yield f"adapters of rank {config.adapters.rank}: the script trains all weights"
    labels = getattr(config.dataset, "labels", None) or getattr(config.dataset, "label", None)
    if labels not in (None, False, "none"):
        yield "labels: the script's model has no classes"


def _is_adamw(config: TrialConfig) -> bool:
    """AdamW, or Adam without weight decay, which is the same."""
    optimizer = config.optimizer
    decay = optimizer.knobs().get("weight_decay")
    return optimizer.type == "adamw" or (optimizer.type == "adam" and decay == 0)


def _ema_power(config: TrialConfig) -> str | None:
    """The power of the first EMA that follows a power rule."""
    names = [name.removeprefix("power-") for name in config.ema if name.startswith("power-")]
    return names[0] if names else None
