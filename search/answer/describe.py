"""Words about a search, in Markdown: what it was, and what won."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from search.engine.analysis import best, by_optimizer
from search.history.book import Book, Trial


def describe_search(book: Book) -> str:
    """The description of a search's parent run."""
    spec, trial = book.spec, book.spec["trial"]
    lines = [
        f"**Which optimizer trains this model best?** `{trial['model']['type']}` on "
        f"`{trial['dataset']['type']}`, {trial['steps']} steps of {trial['batch_size']} examples, "
        f"up to {spec['budget']['trials']} trials over {', '.join(spec['space']['optimizer'])}.",
        "",
    ]
    winner = best(book)
    if winner is None:
        lines.append(f"State: {book.state}. No trial is complete yet.")
        return "\n".join(lines)
    lines += [
        f"State: {book.state}. Best: **{name(winner)}** with val_loss "
        f"**{winner.last('val_loss'):.4f}** ({settings_line(winner)}).",
        "",
        "| optimizer | trials | stopped early | diverged | best val_loss | its lr | steps/s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {optimizer} | {row['trials']} | {row['pruned']} | {row['diverged']} | "
        f"{number(row['best'] and row['best']['val_loss'])} | "
        f"{number(row['best'] and row['best']['lr'], '.2g')} | "
        f"{number(row['steps_per_second'], '.1f')} |"
        for optimizer, row in by_optimizer(book).items()
    ]
    lines += [
        "",
        "These are the best of many tries with one seed each; small differences between "
        "optimizers are not shown by them.",
    ]
    return "\n".join(lines)


def describe_trial(trial: Trial) -> str:
    """The description of a trial's run, when it has ended."""
    last = trial.reports[-1] if trial.reports else {}
    at = f" at step {last['step']} of {trial.config['steps']}" if last else ""
    weights = f" ({last['weights']} weights)" if "weights" in last else ""
    reached = f", val_loss **{last['val_loss']:.4f}**{weights}" if "val_loss" in last else ""
    origin = "A published default. " if trial.baseline else ""
    last_line = "".join((trial.why or "").strip().splitlines()[-1:])
    why = f" ({last_line})" if last_line else ""
    return f"{origin}**{trial.shown}**{why}{at}{reached}: {settings_line(trial)}."


def name(trial: Trial) -> str:
    """What a trial's run is called."""
    return f"{trial.optimizer}-{trial.number}"


def settings_line(trial: Trial) -> str:
    """What was chosen for a trial, on one line."""
    return ", ".join(f"{key} {value}" for key, value in settings_of(trial).items())


def settings_of(trial: Trial) -> dict[str, str]:
    """What was chosen for a trial, in the words of a config, rounded for reading."""
    config: dict[str, Any] = trial.config
    knobs = {key: value for key, value in config["optimizer"].items() if key != "type"}
    shared = {key: config[key] for key in ("warmup", "lr_schedule", "clip_norm")}
    shared |= {k: config[k] for k in ("clip_value", "clip_agc") if config.get(k) is not None}
    return {
        key: f"{value:.3g}" if isinstance(value, float) else str(value)
        for key, value in (knobs | shared).items()
    }


def number(value: float | None, form: str = ".4f") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def yaml_text(content: dict[str, Any]) -> str:
    """A mapping as YAML, for people."""
    return "".join(_entry(key, json.dumps(value)) for key, value in sorted(content.items()))


@lru_cache(1024)  # trials of a search differ in a few of their settings
def _entry(key: str, value: str) -> str:
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    YAML(typ="safe", pure=True).dump({key: json.loads(value)}, stream)
    text = stream.getvalue()
    # a mapping of one plain value alone is written in braces, which has no place in a document
    return f"{text.strip()[1:-1]}\n" if text.startswith("{") else text
