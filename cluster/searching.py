"""Commands that begin, steer and end searches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.shared import (
    OUTPUT,
    OVERRIDES,
    SPEC,
    STORAGE,
    conclude,
    progress_console,
    request,
    show,
)

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
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


@click.command()
@STORAGE
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


@click.command()
@STORAGE
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


@click.command()
@STORAGE
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


@click.command()
@STORAGE
@click.argument("search")
def stop(search: str) -> None:
    """Begin no new trials in SEARCH, and let the running ones finish."""
    request(search, "stop", "no new trials; those that run go on to their end")


@click.command()
@STORAGE
@click.argument("search")
def cancel(search: str) -> None:
    """End SEARCH and all its trials now."""
    request(search, "cancel", "cancelled")


@click.command()
@STORAGE
@click.argument("search")
@click.argument("trial", type=int)
def kill(search: str, trial: int) -> None:
    """End one TRIAL of SEARCH for good."""
    request(search, "kill", f"trial {trial} is told to end", trial=trial)


@click.command()
@STORAGE
@click.argument("search")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="A config.yaml.")
def add(search: str, config: Path) -> None:
    """Have SEARCH try a config of your own, in full."""
    from search.home import Home
    from search.operate import chosen_from

    folder = Home().find(search)
    request(search, "add", "the config waits for a slot", chosen=chosen_from(folder, config))


@click.command()
@STORAGE
@click.argument("search")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def rm(search: str, dry_run: bool) -> None:
    """Delete SEARCH: its folder and its MLflow runs."""
    from search.home import Home
    from search.operate import remove

    for line in remove(Home(), search, dry_run):
        click.echo(line)
