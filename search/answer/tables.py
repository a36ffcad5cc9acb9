"""The tables of the report page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from search.answer.describe import number
from search.answer.wording import share


def make_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], best: int | None = None, text: int = 0
) -> str:
    """Rows of cells; `best` is the row to stress, and `text` more columns hold words."""
    kinds = ['class="text"' if place <= text else "" for place in range(len(columns))]
    head = "".join(
        f"<th {kind}>{escape(name)}</th>" for kind, name in zip(kinds, columns, strict=True)
    )
    body = "".join(
        f"<tr{' class=best' if place == best else ''}>"
        + "".join(f"<td {kind}>{escape(c)}</td>" for kind, c in zip(kinds, row, strict=True))
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def verdict_table(content: dict[str, Any]) -> str:
    """The best against the others, at equal samples and at equal time; then every other pair."""
    metric = content["objective"]["confirmed_on"].replace("_", "\u00a0")
    parts = [(metric, "equal\u00a0samples", content["verdicts"])]
    parts.append((metric, "equal\u00a0time", content["equal_time"]["verdicts"]))
    first = [
        _verdict_row(content, v, *of) for *of, vs in parts for v in vs if v["a"] == vs[0]["a"]
    ]
    parts += [(name, "equal\u00a0samples", pairs) for name, pairs in content["quality"].items()]
    rest = [
        _verdict_row(content, v, *of)
        for *of, vs in parts
        for v in vs
        if v["a"] != vs[0]["a"] or of[0] != metric
    ]
    columns = ("verdict", "in", "at", "seeds", "difference", "of the best loss", "interval")
    shown = make_table(columns, first, text=2)
    if rest:
        everything = make_table(columns, rest, text=2)
        shown += f"<details><summary>{len(rest)} more comparisons</summary>{everything}</details>"
    return shown


def _verdict_row(
    content: dict[str, Any], pair: dict[str, Any], metric: str, clock: str
) -> list[str]:
    low, high = (share(pair, end, "+") for end in pair["interval"])
    said = {"as good": "{b} is as good as {a}", "undecided": "{a} and {b}: undecided"}
    return [
        said.get(pair["verdict"], "{a} is {verdict} than {b}").format(**pair),
        metric,
        clock,
        str(pair["seeds"]),
        f"{pair['difference']:+.4f}",
        share(pair, pair["difference"], "+"),
        f"{low} to {high}",
    ]


def by_optimizer_table(content: dict[str, Any]) -> str:
    """The search and the confirmation, an optimizer a row."""
    metric = content["objective"]["metric"]
    known = [
        name for name, row in content["optimizers"].items() if row["confirmed"] or row["best"]
    ]
    sign = 1 if content["objective"]["mode"] == "min" else -1
    order = sorted(known, key=lambda name: sign * _rank(content["optimizers"][name], metric))
    confirmed = any(row["confirmed"] for row in content["optimizers"].values())
    columns = [
        "optimizer",
        *([f"confirmed {content['objective']['confirmed_on'].replace('_', ' ')}"] * confirmed),
        f"best {metric.replace('_', ' ')} in the search",
        "trials (in full / stopped / diverged)",
        "steps/s",
        "time to the runner-up's best",
        "state bytes / parameter",
        "peak memory, MB",
    ]
    rest = [name for name in content["optimizers"] if name not in order]
    rows = [
        [
            name,
            *([_interval(content["optimizers"][name]["confirmed"])] * confirmed),
            *_row(content["optimizers"][name], metric),
        ]
        for name in (*order, *rest)
    ]
    return make_table(columns, rows, best=0 if _claims(content) else None) + (
        '<p class="note">± is half of Student\'s 95 % interval of the mean over seeds; it says '
        "nothing about differences, which the verdicts do. The best of a search is the luckiest "
        "of many tries, so a fresh seed does slightly worse. Peak memory is of the whole process "
        "on a CPU, of the tensors on a GPU.</p>"
    )


def _claims(content: dict[str, Any]) -> bool:
    """Whether anything was shown, so that a best can be stressed."""
    return any(verdict["verdict"] in ("better", "worse") for verdict in content["verdicts"])


def _rank(row: dict[str, Any], metric: str) -> float:
    """Confirmed ones first: both are losses of the same kind."""
    return float(row["confirmed"]["mean"] if row["confirmed"] else row["best"][metric])


def _interval(confirmed: dict[str, Any] | None) -> str:
    if confirmed is None:
        return "-"
    if confirmed["interval"] is None:
        return f"{confirmed['mean']:.4f}"
    half = (confirmed["interval"][1] - confirmed["interval"][0]) / 2
    return f"{confirmed['mean']:.4f} ± {half:.4f}"


def _row(row: dict[str, Any], metric: str) -> list[str]:
    best = row["best"] or {}
    reached = best.get("to_runner_up")
    speed = row["confirmed"]["steps_per_second"] if row["confirmed"] else row["steps_per_second"]
    memory = row["peak_memory_bytes"]
    return [
        number(best.get(metric)),
        f"{row['trials']} ({row['complete']} / {row['pruned']} / {row['diverged']})",
        number(speed, ".1f"),
        f"{reached['seconds']:.1f} s, step {reached['step']}" if reached else "not reached",
        number(row["bytes_per_parameter"], ".1f"),
        number(memory and memory / 1e6, ".0f"),
    ]


QUALITY = {"quality_mmd": "MMD²", "quality_fd": "Fréchet distance", "quality_coverage": "coverage"}


def quality_table(content: dict[str, Any]) -> str:
    """Sample quality of the winners between its two ends: other real examples, and noise."""
    rows = []
    for name, row in content["optimizers"].items():
        measured = {**(row["best"] or {}), **(row["confirmed"] or {}).get("means", {})}
        if any(key in measured for key in QUALITY):
            rows.append([name, *(number(measured.get(key), ".3g") for key in QUALITY)])
    if not rows:
        return ""
    for of, label in (("_real", "other real examples"), ("_noise", "pure noise")):
        found = [content["quality_references"].get(key + of) for key in QUALITY]
        rows.append([label, *(number(value, ".3g") for value in found)])
    note = (
        "Of the samples that a winner draws, against held-out examples: distances of features "
        "(0 is best), and the share of real examples that have a sample near them (1 is best). "
        "Means over the fresh seeds where it was confirmed. Loss and quality can disagree."
    )
    return make_table(["", *QUALITY.values()], rows) + f'<p class="note">{note}</p>'


def noise_table(content: dict[str, Any]) -> str:
    """The winners' losses by quartile of the noise level, as the figure has them."""
    rows = []
    for name, row in content["optimizers"].items():
        means, best = (row["confirmed"] or {}).get("means"), row["best"]
        found, prefix = (means, "test_loss_q") if means else (best, "val_loss_q")
        if found:
            rows.append([name, *(number(found[f"{prefix}{q}"]) for q in range(1, 5))])
    columns = ("optimizer", "quartile 1, least noise", "quartile 2", "quartile 3", "quartile 4")
    return make_table(columns, rows)


def stability_table(content: dict[str, Any]) -> str:
    """Divergence, and how far the largest gradient stood out."""
    rows = []
    for name, row in content["optimizers"].items():
        found = row["stability"]
        stopped = row["stopped_share"]
        rows.append(
            [
                name,
                "-" if found["share"] is None else f"{100 * found['share']:.0f} %",
                number(found["lowest_diverged_lr"], ".2g"),
                number(found["largest_gradient_jump"], ".1f"),
                number(found["most_loss_spikes"], ".0f"),
                "-" if stopped is None else f"{100 * stopped:.0f} %",
            ]
        )
    columns = (
        "optimizer",
        "trials that diverged",
        "lowest learning rate that did",
        "largest gradient norm / median",
        "most loss spikes in a trial",
        "trials stopped early",
    )
    return make_table(columns, rows)


def settings_table(content: dict[str, Any]) -> str:
    """What the best trial of each optimizer was told, with its basin of learning rates."""
    rows = []
    for name, row in content["optimizers"].items():
        if not row["best"]:
            continue
        config, rate = row["best"]["config"], row["learning_rate"]
        knobs = {k: v for k, v in config["optimizer"].items() if k not in ("type", "lr")}
        low, high = rate["basin"]
        rows.append(
            [
                name,
                f"{rate['best']:.3g}",
                f"{low:.2g} to {high:.2g}" if low < high else "one trial only",
                ", ".join(f"{k} {_short(v)}" for k, v in knobs.items()),
                f"warmup {_short(config['warmup'])}, {config['lr_schedule']}, "
                f"clip_norm {_short(config['clip_norm'])}",
            ]
        )
    columns = ("optimizer", "learning rate", "within 5 % of its best", "its knobs", "shared")
    return make_table(columns, rows, text=4)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
