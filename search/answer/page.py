"""The report as one HTML page: no script, nothing to fetch, for the screen and for paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from search.answer.describe import number, yaml_text
from search.answer.plots import Drawing
from search.answer.tables import (
    by_optimizer_table,
    make_table,
    noise_table,
    quality_table,
    settings_table,
    stability_table,
    verdict_table,
)
from search.answer.wording import duration, told
from search.engine.analysis import front_rows

CSS = """
:root { color-scheme: light; color: #1a1a1a; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 1060px; margin: 0 auto; padding: 24px 24px 64px; }
h1 { font-size: 1.5rem; margin: 0 0 .2em; } h2 { font-size: 1.2rem; margin: 2.2em 0 .5em; }
h1 + p { color: #555; margin-top: 0; }
.answer { font-size: 1.25rem; line-height: 1.4; border-left: 6px solid #0072B2; margin: 1em 0;
  padding: .6em 1em; background: #f2f7fb; }
.also { display: block; font-size: 1rem; margin-top: .5em; color: #333; }
.unfinished { border: 2px solid #B35900; background: #fff6ec; padding: .5em 1em;
  font-weight: 600; }
.warnings { border-left: 6px solid #E69F00; background: #fffaf0; padding: .4em 1em .4em 2em;
  margin: 1em 0; }
table { border-collapse: collapse; margin: .8em 0; font-size: .92rem; }
th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #999; } th:first-child, td:first-child, td.text, th.text {
  text-align: left; }
td:not(.text):not(:first-child) { white-space: nowrap; }
tr.best td { background: #f2f7fb; font-weight: 600; }
.wide { overflow-x: auto; }
#verdicts img { max-width: 640px; }
figure { margin: 0; break-inside: avoid; } figure img { width: 100%; height: auto; }
.note { color: #555; font-size: .9rem; margin: .3em 0; max-width: 80ch; }
.grids { display: flex; flex-wrap: wrap; gap: 16px; }
.grids figure { width: 232px; } .grids img { image-rendering: pixelated; }
pre { background: #f5f5f5; padding: .8em 1em; overflow-x: auto; font-size: .85rem; }
code { background: #f5f5f5; padding: .1em .3em; }
@media print { :root { font-size: 11pt; } body { padding: 0; max-width: none; }
  h2 { break-after: avoid; } pre { white-space: pre-wrap; } .wide { overflow: visible; }
  table { font-size: 8.5pt; } }
"""
ORDER = ("learning_rate", "best_found", "noise_levels", "effects", "importance", "rungs")


def page(content: dict[str, Any], figures: dict[str, Drawing], grids: dict[str, Path]) -> str:
    """The whole page, from the numbers, the figures, and a sample grid for each winner."""
    title = escape(f"diffsweep report: {content['search']}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<style>{CSS}</style></head>\n<body>\n"
        + "\n".join(_sections(content, figures, grids))
        + "\n</body></html>\n"
    )


def _sections(
    content: dict[str, Any], figures: dict[str, Drawing], grids: dict[str, Path]
) -> Iterator[str]:
    yield from _top(content, figures)
    if content["pareto"] is not None:
        body = _figure(figures["pareto"]) if "pareto" in figures else ""
        yield section(
            "pareto", "The Pareto front", body + make_table(*front_rows(content["pareto"]))
        )
    if content["verdicts"]:
        note = TIME_NOTE if content["answer_at_equal_time"] else ""
        yield section("pairs", "Every pair", verdict_table(content) + note)
    yield section("optimizers", "By optimizer", by_optimizer_table(content))
    if "curves" in figures:
        yield section("curves", figures["curves"].title, _figure(figures["curves"]))
    if quality := quality_table(content):
        yield section("quality", "Quality of samples", quality)
    if grids:
        yield section("samples", "Samples of the winners", _grids(grids, content))
    for name in ORDER:
        if name in figures:
            below = noise_table(content) if name == "noise_levels" else ""
            yield section(name, figures[name].title, _figure(figures[name]) + below)
    yield section("stability", "Stability", stability_table(content))
    yield section("configs", "The winning configs", settings_table(content))
    yield section("reproduce", "Do it again", _reproduce(content))


TIME_NOTE = (
    '<p class="note">At equal time: where each stood when the fastest was through, by the mean '
    "speed of each over its seeds; losses are read off the curves of the confirm trials, a "
    "straight line between reports. A learning rate schedule planned for the shorter time could "
    "do better than one that is cut off.</p>"
)


def _top(content: dict[str, Any], figures: dict[str, Drawing]) -> Iterator[str]:
    model, data = content["data"]["model"], content["data"]["dataset"]
    names = ", ".join(content["optimizers"])
    yield f"<h1>Which optimizer trains this model best?</h1><p>{escape(content['search'])}</p>"
    if not content["finished"]:
        yield (
            f'<p class="unfinished">Unfinished: this search is {escape(content["state"])}. '
            "What follows is how it stands so far.</p>"
        )
    timed = content["answer_at_equal_time"]
    also = f'<span class="also">{escape(timed)}</span>' if timed else ""
    yield f'<p class="answer" id="answer">{escape(content["answer"])}{also}</p>'
    if "verdicts" in figures:
        yield section("verdicts", figures["verdicts"].title, _figure(figures["verdicts"]))
    yield f'<p id="cost">{escape(_cost(content))}</p>'
    if deciding := content["decide"]:
        why = f"{deciding['why'][:1].upper()}{deciding['why'][1:]}"
        yield f'<p id="decide">{escape(why)}:</p><pre>{escape(deciding["run"])}</pre>'
    if content["warnings"]:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in content["warnings"])
        yield f'<ul class="warnings">{items}</ul>'
    budget, seeds = content["budget"], content["seeds"]
    search, confirm = budget["search"], budget["confirm"]
    rows = {
        "compared": names,
        "model": told(model, content["data"]["parameters"]),
        "data": told(data),
        "process": process_of(content["data"]["diffusion"]),
        "one full training": f"{budget['steps']:,} steps of {budget['batch_size']} examples = "
        f"{budget['samples']:,} samples",
        "search": f"{search['trials']} of {budget['trials']} trials, {budget['allocation']} "
        f"allocation, seed {seeds['search']}: compute of {search['full_trainings']:.1f} full "
        f"trainings ({search['training_seconds']:.0f} s of training)",
        "confirm": _confirm_line(content, confirm),
        **({"before tuning": _before_line(content)} if content["before"] else {}),
        "how sure": content["how_sure"],
    }
    cells = "".join(
        f'<tr><td>{key}</td><td class="text">{escape(value)}</td></tr>'
        for key, value in rows.items()
    )
    yield section("setting", "What was compared, on what, with how much compute", table(cells))
    steps = "".join(
        f"<li><code>{escape(step['run'])}</code>: {escape(step['why'])}</li>"
        for step in content["next"]
        if step != deciding
    )
    yield section("next", "What to run next", f"<ul>{steps}</ul>" if steps else "<p>Nothing.</p>")


def _cost(content: dict[str, Any]) -> str:
    """What the answer cost, in one sentence."""
    search, confirm = content["budget"]["search"], content["budget"]["confirm"]
    seconds = search["training_seconds"] + confirm["training_seconds"]
    return (
        f"It cost {search['full_trainings'] + confirm['full_trainings']:.0f} full trainings "
        f"({duration(seconds)} of training): {search['full_trainings']:.0f} to find the "
        f"configs, {confirm['full_trainings']:.0f} to judge them on fresh seeds."
    )


def process_of(diffusion: dict[str, Any]) -> str:
    """The noise process in a few words."""
    if diffusion["prediction"] in ("edm", "flow"):
        return str(diffusion["prediction"])
    return f"{diffusion['prediction']} prediction, {diffusion['noise_schedule']} noise schedule"


def _confirm_line(content: dict[str, Any], confirm: dict[str, Any]) -> str:
    if not confirm["trials"]:
        return "not done"
    judged = content["seeds"]["judged"]
    errors = [
        row["test_loss_se"] / row["test_loss"]
        for row in content["confirm"]
        if row.get("test_loss_se") and row.get("test_loss")
    ]
    pairs = f", each with a standard error of {100 * max(errors):.2g} % at most" if errors else ""
    return (
        f"{confirm['trials']} of {confirm['planned']} trainings, judged on up to {len(judged)} "
        f"fresh seeds ({', '.join(map(str, judged))}), on the test part of the data{pairs}: "
        f"{confirm['full_trainings']:.1f} full trainings ({confirm['training_seconds']:.0f} s of "
        "training)"
    )


def _before_line(content: dict[str, Any]) -> str:
    before = content["before"]
    kind = "published default" if before["published"] else "baseline of the spec"
    return (
        f"{before['name']}, the {kind}, ends at {before['value']:.4f}; the best found "
        f"at {before['best']:.4f}: tuning was worth "
        f"{100 * before['gain']:.0f} % of the loss (one seed, on the validation part)"
    )


def section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>'


def table(rows: str) -> str:
    return f'<div class="wide"><table>{rows}</table></div>'


def _figure(drawing: Drawing) -> str:
    """As an image, so that the figures' inner names can't clash."""
    data = base64.b64encode(drawing.svg.encode()).decode()
    return (
        f'<figure><img alt="{escape(drawing.title)}" src="data:image/svg+xml;base64,{data}">'
        f'<figcaption class="note">{escape(drawing.note)}</figcaption></figure>'
    )


def _grids(grids: dict[str, Path], content: dict[str, Any]) -> str:
    figures = []
    for name, path in grids.items():
        data = base64.b64encode(path.read_bytes()).decode()
        figures.append(
            f'<figure><img alt="samples of {escape(name)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(name)}</figcaption></figure>"
        )
    same = (
        "All from the same noise, trained on the same seed."
        if content["confirm"]
        else "The best complete trial of each optimizer, all from the same noise."
    )
    return f'<div class="grids">{"".join(figures)}</div><p class="note">{same}</p>'


def _reproduce(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in content["versions"].items())
    search = content["search"]
    commands = [
        f"diffsweep run {search}.yaml   # the spec below, saved under this name",
        f"diffsweep export {search} --to best",
        "diffsweep train best/config.yaml   # the winner's config, to the same number",
    ]
    return (
        f"<pre>{escape(chr(10).join(commands))}</pre>"
        f"<p>Seeds: training {content['seeds']['search']}, sampler "
        f"{content['seeds']['sampler']}, confirm "
        f"{', '.join(map(str, content['seeds']['confirm'])) or '-'}. Versions: {escape(versions)}."
        " A training is repeated to the last digit on the same kind of machine with the same "
        "number of threads; which trials a search makes also depends on the order in which "
        "parallel ones end.</p>"
        f"<details open><summary>spec.yaml</summary><pre>{escape(yaml_text(content['spec']))}"
        f"</pre></details><p class='note'>Total time of the drivers: "
        f"{number(content['budget']['seconds'], '.0f')} s.</p>"
    )
