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
@OUTPUT
def run(spec: Path, overrides: tuple[str, ...], output: str) -> None:
    """Run the search of SPEC here, with live progress. Ctrl-C leaves it resumable."""
    from search.home import Home
    from search.spec import load_spec

    loaded = load_spec(spec, overrides)
    from search.run import run as run_search

    folder, book = run_search(loaded, Home(), progress_console(output))
    conclude(folder, book, output)


@cli.command()
@click.argument("search")
@OUTPUT
def resume(search: str, output: str) -> None:
    """Go on with SEARCH after an interruption."""
    from search.home import Home
    from search.run import resume as resume_search

    folder, book = resume_search(Home(), search, progress_console(output))
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
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@OUTPUT
def export(search: str, to: Path, output: str) -> None:
    """Write the best config of SEARCH with its weights, numbers, and a card."""
    from search.export import export_best
    from search.history import read_book
    from search.home import Home

    folder = Home().find(search)
    trial = export_best(folder, read_book(folder.history), to)
    result = {"search": folder.id, "trial": trial.number, "to": str(to)}
    show(output, result, lambda console, _: console.print(next_after_export(to)))


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
    if book.state == "interrupted":
        sys.exit(INTERRUPTED)
    if book.state == "failed":
        sys.exit(1)
    if not any(trial.state == "complete" for trial in book.trials.values()):
        raise Nothing(f"{folder.id}: the budget is spent and no trial is complete")


def next_after_export(to: Path) -> str:
    return f"Exported to {to}. Train it again with: diffsweep train {to}/config.yaml"


class Nothing(DiffsweepError):
    """The budget was spent without one complete trial."""

    exit_code = NOTHING_COMPLETE


def main() -> None:
    """Run the command; faults are one line each on stderr, without a traceback."""
    try:
        cli.main(standalone_mode=False)
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
