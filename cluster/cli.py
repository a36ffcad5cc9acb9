"""The command `diffsweep`: thin, with its imports inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.errors import BadInput, DiffsweepError

if TYPE_CHECKING:
    from rich.console import Console

    from search.history import Book
    from search.home import Folder

SPEC = click.argument("spec", type=click.Path(path_type=Path))
OVERRIDES = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the spec."
)
OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to show it."
)
INTERRUPTED = 130
NOTHING_COMPLETE = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="diffsweep")
def cli() -> None:
    """Find out which optimizer, and which settings, train your diffusion model best."""


@cli.command()
@SPEC
@OVERRIDES
@click.option("--smoke", is_flag=True, help="Train a few real steps with each optimizer too.")
@OUTPUT
def check(spec: Path, overrides: tuple[str, ...], smoke: bool, output: str) -> None:
    """Validate SPEC; show its search space, its rungs, and what it will cost."""
    from search.plan import plan, show_plan
    from search.spec import load_spec

    loaded = load_spec(spec, overrides)
    if not smoke:
        show(output, plan(loaded), lambda console, _: show_plan(loaded, console))
        return
    from search.smoke import check_smoke, show_smoke
    from search.smoke import smoke as rehearse

    found = rehearse(loaded)

    def both(console: Console, _: Any) -> None:
        show_plan(loaded, console)
        show_smoke(found, console)

    show(output, plan(loaded) | {"smoke": found}, both)
    check_smoke(found)


@cli.command()
@SPEC
@OVERRIDES
@click.option(
    "--from", "earlier", multiple=True, metavar="ID", help="Learn from an earlier search."
)
@OUTPUT
def run(spec: Path, overrides: tuple[str, ...], earlier: tuple[str, ...], output: str) -> None:
    """Run the search of SPEC here, with live progress. Ctrl-C leaves it resumable."""
    from search.home import Home
    from search.spec import load_spec

    loaded = load_spec(spec, overrides)
    from search.run import run as run_search

    folder, book = run_search(loaded, Home(), progress_console(output), earlier)
    conclude(folder, book, output)


@cli.command()
@click.argument("search")
@click.option("--trials", type=click.IntRange(min=1), help="So many more trials.")
@click.option("--wall-clock", metavar="DURATION", help="So much more time, as in 30m.")
@click.option("--gpu-hours", type=float, help="So many more GPU-hours.")
@click.option("--retry-failed", is_flag=True, help="Try the failed trials again.")
@OUTPUT
def resume(
    search: str,
    trials: int | None,
    wall_clock: str | None,
    gpu_hours: float | None,
    retry_failed: bool,
    output: str,
) -> None:
    """Go on with SEARCH after any end of it."""
    from search.home import Home
    from search.run import resume as resume_search
    from search.spec import duration

    time = None if wall_clock is None else duration(wall_clock, "--wall-clock")
    given = {"trials": trials, "wall_clock": time, "gpu_hours": gpu_hours}
    more = {key: value for key, value in given.items() if value is not None}
    console = progress_console(output)
    folder, book = resume_search(Home(), search, console, more, retry_failed)
    conclude(folder, book, output)


@cli.command()
@click.argument("search")
def stop(search: str) -> None:
    """Begin no new trials in SEARCH, and let the running ones finish."""
    request(search, "stop", "no new trials; those that run go on to their end")


@cli.command()
@click.argument("search")
def cancel(search: str) -> None:
    """End SEARCH and all its trials now."""
    request(search, "cancel", "cancelled")


@cli.command()
@click.argument("search")
@click.argument("trial", type=int)
def kill(search: str, trial: int) -> None:
    """End one TRIAL of SEARCH for good."""
    request(search, "kill", f"trial {trial} is told to end", trial=trial)


@cli.command()
@click.argument("search")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="A config.yaml.")
def add(search: str, config: Path) -> None:
    """Have SEARCH try a config of your own, in full."""
    from search.home import Home
    from search.operate import chosen_from

    folder = Home().find(search)
    request(search, "add", "the config waits for a slot", chosen=chosen_from(folder, config))


@cli.command()
@click.argument("search")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def rm(search: str, dry_run: bool) -> None:
    """Delete SEARCH: its folder and its MLflow runs."""
    from search.home import Home
    from search.operate import remove

    for line in remove(Home(), search, dry_run):
        click.echo(line)


@cli.command()
@click.argument("recorded", metavar="ID|CSV")
@click.option("--scheduler", help="asha, hyperband, median or none.")
@click.option("--sampler", help="tpe, random, ...")
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--seeds", type=click.IntRange(min=2), default=30, show_default=True)
@OVERRIDES
@OUTPUT
def replay(
    recorded: str,
    scheduler: str | None,
    sampler: str | None,
    workers: int,
    seeds: int,
    overrides: tuple[str, ...],
    output: str,
) -> None:
    """Try samplers and schedulers on recorded curves, before spending GPUs."""
    from search.home import Home
    from search.replay import replay_recorded, show_replay

    types = {"scheduler.type": scheduler, "sampler.type": sampler}
    chosen = [f"{key}={value}" for key, value in types.items() if value is not None]
    result = replay_recorded(Home(), recorded, [*chosen, *overrides], workers, seeds)
    show(output, result, show_replay)


@cli.command()
@click.argument("search")
@click.option("--top", type=click.IntRange(min=1), help="How many winners; 1 unless set.")
@click.option("--per", type=click.Choice(["optimizer", "search"]), help="Winners of what.")
@click.option("--seeds", type=click.IntRange(min=2), help="Fresh seeds for each; 5 unless set.")
@OUTPUT
def confirm(search: str, top: int | None, per: str | None, seeds: int | None, output: str) -> None:
    """Train the winners of SEARCH again in full, on fresh seeds, and judge them on unseen data."""
    from search.home import Home
    from search.run import confirm as confirm_search

    given = {"top": top, "per": per, "seeds": seeds}
    changes = {key: value for key, value in given.items() if value is not None}
    folder, book = confirm_search(Home(), search, changes, progress_console(output))
    conclude(folder, book, output)


@cli.command()
@OUTPUT
def ls(output: str) -> None:
    """List the searches."""
    from search.home import Home
    from search.status import list_searches, show_list

    show(output, list_searches(Home()), show_list)


@cli.command()
@click.argument("search")
@OUTPUT
def status(search: str, output: str) -> None:
    """Show one SEARCH: its state, its trials, its best, its budget."""
    from search.home import Home
    from search.status import show_status, status_of

    show(output, status_of(Home().find(search)), show_status)


@cli.command()
@click.argument("search")
@OUTPUT
def trials(search: str, output: str) -> None:
    """List the trials of SEARCH."""
    from search.home import Home
    from search.status import list_trials, show_trials

    show(output, list_trials(Home().find(search)), show_trials)


@cli.command()
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
@OUTPUT
def export(search: str, to: str, per_optimizer: bool, form: str, output: str) -> None:
    """Write the best config of SEARCH with its weights, numbers, and a card."""
    from search.export import export as export_search
    from search.home import Home

    home = Home()
    result = export_search(home.find(search), home, to, per_optimizer, form)
    show(output, result, lambda console, content: console.print(after_export(content)))


@cli.command()
@click.argument("search")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Claim only what is more than this share of the loss; 0.01 unless set.",
)
@OUTPUT
def report(search: str, margin: float | None, output: str) -> None:
    """Write the answer of SEARCH as a page, with its numbers and plots; unfinished ones too."""
    from search.home import Home
    from search.publish import publish
    from search.report import show_answer, write_report
    from search.status import open_book
    from search.verdict import MARGIN

    home = Home()
    folder = home.find(search)
    book = open_book(folder)
    content = write_report(folder, book, MARGIN if margin is None else margin)
    show(output, content, lambda console, content: show_answer(folder, content, console))
    if problem := publish(folder, home, book, content):
        click.echo(f"not sent to MLflow: {problem}", err=True)


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), help="Train for so many steps instead.")
@click.option("--seed", type=click.IntRange(min=0), help="Train with another seed.")
@click.option("--out", type=click.Path(path_type=Path), help="Write checkpoint and metrics here.")
@OUTPUT
def train(
    config: Path, steps: int | None, seed: int | None, out: Path | None, output: str
) -> None:
    """Train one CONFIG without Ray; an exported one reproduces its trial's numbers."""
    from search.training import train_config

    metrics = train_config(config, steps, seed, out, progress_console(output))
    show(output, metrics, lambda console, m: console.print(f"val_loss {m['val_loss']:.6f}"))
    if metrics["diverged_at"] is not None:
        sys.exit(1)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True)
def ui(host: str, port: int) -> None:
    """Open the MLflow UI on the store of the searches here."""
    from search.home import Home
    from search.ui import serve

    serve(Home(), host, port)


@cli.command()
def schema() -> None:
    """Print the JSON schema of a spec, for editors."""
    from search.spec import SearchSpec

    click.echo(json.dumps(SearchSpec.model_json_schema(), indent=2))


def request(search: str, verb: str, meaning: str, **content: Any) -> None:
    """Leave a request for the driver of a search."""
    from search.home import Home
    from search.operate import ask_driver

    click.echo(ask_driver(Home().find(search), verb, meaning, **content))


def show(output: str, content: Any, text: Callable[[Console, Any], object]) -> None:
    """Show content as JSON, or as text by the given function."""
    if output == "json":
        click.echo(json.dumps(content))
    else:
        from rich.console import Console

        text(Console(), content)


def progress_console(output: str) -> Console:
    """Where progress goes: with JSON asked for, not where the JSON goes."""
    from rich.console import Console

    return Console(file=sys.stderr if output == "json" else sys.stdout)


def conclude(folder: Folder, book: Book, output: str) -> None:
    """Show what a search found and what to type next, and exit as its end demands."""
    from search.status import show_result, status_of

    show(output, status_of(folder), lambda console, _: show_result(folder, book, console))
    if book.state in ("interrupted", "cancelled"):
        sys.exit(INTERRUPTED)
    if book.state == "failed":
        sys.exit(1)
    if not any(trial.state == "complete" for trial in book.trials.values()):
        raise Nothing(f"{folder.id}: the budget is spent and no trial is complete")


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


class Nothing(DiffsweepError):
    """The budget was spent without one complete trial."""

    exit_code = NOTHING_COMPLETE


def main() -> None:
    """Run the command; faults are one line each on stderr, without a traceback."""
    try:
        cli.main(prog_name="diffsweep", standalone_mode=False)
    except DiffsweepError as error:
        for fault in error.faults:
            click.echo(f"{'error: ' if not isinstance(error, BadInput) else ''}{fault}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        click.echo(
            f"{where}: {error.format_message()}" if where else error.format_message(), err=True
        )
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
