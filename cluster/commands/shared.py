"""What the commands share: their options, how they show things, and how a search concludes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.errors import DiffsweepError
from trainable.base.plain import to_json

if TYPE_CHECKING:
    from rich.console import Console

    from search.history.book import Book
    from search.history.folder import Folder

SPEC = click.argument("spec", type=click.Path(path_type=Path))
OVERRIDES = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the spec."
)
OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to show it."
)
CLUSTER = click.option(
    "--cluster",
    metavar="URL",
    help="Where the search is if not here: Ray's dashboard; RAY_ADDRESS or `up`'s unless set.",
)
STORAGE = click.option(
    "--storage",
    metavar="URI",
    expose_value=False,
    callback=lambda ctx, param, value: value and os.environ.update(DIFFSWEEP_STORAGE=value),
    help="Where searches are kept: a shared folder or s3://bucket/prefix.",
)
INTERRUPTED = 130
NOTHING_COMPLETE = 3


def show(output: str, content: Any, text: Callable[[Console, Any], object]) -> None:
    """Show content as JSON, or as text by the given function."""
    if output == "json":
        click.echo(to_json(content))
    else:
        from rich.console import Console

        text(Console(), content)


def progress_console(output: str) -> Console:
    """Where progress goes: with JSON asked for, not where the JSON goes."""
    from rich.console import Console

    return Console(file=sys.stderr if output == "json" else sys.stdout)


def conclude(folder: Folder, book: Book, output: str) -> None:
    """Show what a search found and what to type next, and exit as its end demands."""
    from search.watch.shown import show_result
    from search.watch.status import status_of

    show(output, status_of(folder), lambda console, _: show_result(folder, book, console))
    if book.state in ("interrupted", "cancelled"):
        sys.exit(INTERRUPTED)
    if book.state == "failed":
        sys.exit(1)
    if not any(trial.state == "complete" for trial in book.trials.values()):
        raise Nothing(f"{folder.id}: the budget is spent and no trial is complete")


class Nothing(DiffsweepError):
    """The budget was spent without one complete trial."""

    exit_code = NOTHING_COMPLETE
