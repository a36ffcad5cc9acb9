"""Commands that show and use what searches found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cluster.commands.shared import CLUSTER, OUTPUT, OVERRIDES, STORAGE, progress_console, show


@click.command()
@STORAGE
@click.argument("recorded", metavar="ID|CSV")
@click.option("--scheduler", help="asha, hyperband, median or none.")
@click.option("--sampler", help="tpe, random, ...")
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--seeds", type=click.IntRange(min=2), default=30, show_default=True)
@click.option("--tracking", metavar="URI", help="Read the search from this MLflow server.")
@OVERRIDES
@OUTPUT
def replay(
    recorded: str,
    scheduler: str | None,
    sampler: str | None,
    workers: int,
    seeds: int,
    tracking: str | None,
    overrides: tuple[str, ...],
    output: str,
) -> None:
    """Try samplers and schedulers on recorded curves, before spending GPUs."""
    from search.forecast.replay import replay_recorded, show_replay
    from search.history.home import Home

    types = {"scheduler.type": scheduler, "sampler.type": sampler}
    chosen = [f"{key}={value}" for key, value in types.items() if value is not None]
    result = replay_recorded(Home(), recorded, [*chosen, *overrides], workers, seeds, tracking)
    show(output, result, show_replay)


@click.command()
@CLUSTER
@STORAGE
@OUTPUT
def ls(cluster: str | None, output: str) -> None:
    """List the searches, here and on the cluster."""
    from cluster.remote.steering import searches
    from search.watch.shown import show_list

    show(output, searches(cluster), show_list)


@click.command()
@STORAGE
@click.argument("search", required=False)
@click.option("--watch", is_flag=True, help="Show it again and again until it ends.")
@CLUSTER
@OUTPUT
def status(search: str | None, watch: bool, cluster: str | None, output: str) -> None:
    """Show one SEARCH: its state, its trials, its best, its budget. Without: the cluster."""
    from cluster.remote import seen, steering
    from search.watch.shown import show_status

    if search is None:
        show(output, seen.overview_of(cluster), seen.show_overview)
    elif watch:
        seen.watch(search, cluster, output)
    else:
        show(output, steering.status(search, cluster), show_status)


@click.command()
@STORAGE
@click.argument("search")
@CLUSTER
@OUTPUT
def trials(search: str, cluster: str | None, output: str) -> None:
    """List the trials of SEARCH."""
    from cluster.remote.located import locate
    from search.history.folder import Folder
    from search.watch.shown import show_trials
    from search.watch.status import list_trials

    where = locate(search, cluster)
    found = list_trials(where) if isinstance(where, Folder) else where.ask("trials")
    show(output, found, show_trials)


@click.command()
@STORAGE
@click.argument("search")
@click.option("--to", required=True, help="A folder, s3://bucket/prefix, or models:/NAME.")
@click.option("--per-optimizer", is_flag=True, help="The best of each optimizer.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", "hf-args"]),
    default="yaml",
    help="hf-args: also the flags of diffusers' train_unconditional.py.",
)
@click.option("--trial", type=int, help="This one, such as another of a Pareto front.")
@CLUSTER
@OUTPUT
def export(
    search: str,
    to: str,
    per_optimizer: bool,
    form: str,
    trial: int | None,
    cluster: str | None,
    output: str,
) -> None:
    """Write the best config of SEARCH with its weights, numbers, and a card."""
    from cluster.remote import seen
    from cluster.remote.located import locate
    from search.history.folder import Folder
    from search.history.home import Home
    from search.takeaway.export import export as export_search

    how = per_optimizer, form, trial
    where = locate(search, cluster)
    if isinstance(where, Folder):
        result = export_search(where, Home(), to, *how)
    else:
        result = seen.export(where, to, *how)
    show(output, result, lambda console, content: console.print(after_export(content)))


@click.command()
@STORAGE
@click.argument("search")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Claim only what is more than this share of the loss; 0.01 unless set.",
)
@CLUSTER
@OUTPUT
def report(search: str, margin: float | None, cluster: str | None, output: str) -> None:
    """Write the answer of SEARCH as a page, with its numbers and plots; unfinished ones too."""
    from cluster.remote import seen
    from cluster.remote.located import locate
    from search.answer.report import show_answer, write_report
    from search.history.folder import Folder
    from search.history.home import Home
    from search.judging.comparing import MARGIN
    from search.takeaway.publish import publish
    from search.watch.status import open_book

    home = Home()
    where = locate(search, cluster)
    if isinstance(where, Folder):
        folder, book = where, open_book(where)
        content = write_report(folder, book, MARGIN if margin is None else margin)
    else:
        folder, content, problem = seen.report(where, home, margin)
    show(output, content, lambda console, content: show_answer(folder, content, console))
    if isinstance(where, Folder):
        problem = publish(folder, home, book, content)
    if problem:
        click.echo(f"not sent to MLflow: {problem}", err=True)


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), help="Train for so many steps instead.")
@click.option("--seed", type=click.IntRange(min=0), help="Train with another seed.")
@click.option("--out", type=click.Path(path_type=Path), help="Write checkpoint and metrics here.")
@OUTPUT
def train(
    config: Path, steps: int | None, seed: int | None, out: Path | None, output: str
) -> None:
    """Train one CONFIG without Ray; an exported one reproduces its trial's numbers."""
    from search.takeaway.training import train_config

    metrics = train_config(config, steps, seed, out, progress_console(output))
    show(output, metrics, lambda console, m: console.print(f"val_loss {m['val_loss']:.6f}"))
    if metrics["diverged_at"] is not None:
        click.echo(f"{config}: diverged at step {metrics['diverged_at']}", err=True)
        sys.exit(1)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True)
def ui(host: str, port: int) -> None:
    """Open the MLflow UI on the store of the searches here."""
    from search.history.home import Home
    from search.tracking.ui import serve

    serve(Home(), host, port)


@click.command()
def schema() -> None:
    """Print the JSON schema of a spec, for editors."""
    from search.spec.spec import SearchSpec

    click.echo(json.dumps(SearchSpec.model_json_schema(), indent=2))


def after_export(content: dict[str, Any]) -> str:
    """What was exported where, and what can be done with it."""
    lines = []
    for row in content["exported"]:
        if "version" in row:
            lines.append(f"Registered version {row['version']} of {row['to']}, alias champion")
        else:
            lines.append(f"Exported {row['optimizer']}-{row['trial']} to {row['to']}")
    if "://" not in content["to"] and not content["to"].startswith("models:"):
        lines.append(f"Train it again with: diffsweep train {content['to']}/config.yaml")
    return "\n".join(lines)
