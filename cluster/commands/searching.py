"""Commands that begin, steer and end searches."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.commands.shared import (
    CLUSTER,
    OUTPUT,
    OVERRIDES,
    SPEC,
    STORAGE,
    conclude,
    progress_console,
    show,
)

if TYPE_CHECKING:
    from rich.console import Console

WAIT = click.option("--wait", is_flag=True, help="Of a submitted one: stay until it ends.")


@click.command()
@SPEC
@OVERRIDES
@click.option("--smoke", is_flag=True, help="Train a few real steps with each optimizer too.")
@click.option(
    "--cluster", metavar="URL", help="Where it is to run; RAY_ADDRESS unless set, or here."
)
@OUTPUT
def check(
    spec: Path, overrides: tuple[str, ...], smoke: bool, cluster: str | None, output: str
) -> None:
    """Validate SPEC; show its search space, its rungs, what it will cost, and whether it fits."""
    from cluster.remote.places import places
    from search.forecast.plan import plan, show_plan
    from search.spec.loading import load_spec

    loaded = load_spec(spec, overrides)
    where, at_once, fault = places(loaded, cluster)
    planned = plan(loaded, at_once) | {"place": {"where": where, "at_once": at_once or 0}}
    if fault is not None or not smoke:
        show(output, planned, lambda console, _: show_plan(loaded, planned, console))
        if fault is not None:
            raise fault
        return
    from search.forecast.smoke import check_smoke, show_smoke
    from search.forecast.smoke import smoke as rehearse

    found = rehearse(loaded)

    def both(console: Console, _: Any) -> None:
        show_plan(loaded, planned, console)
        show_smoke(found, console)

    show(output, planned | {"smoke": found}, both)
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
    from search.history.home import Home
    from search.spec.loading import load_spec

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
@CLUSTER
@WAIT
@OUTPUT
def resume(
    search: str,
    trials: int | None,
    wall_clock: str | None,
    gpu_hours: float | None,
    retry_failed: bool,
    cluster: str | None,
    wait: bool,
    output: str,
) -> None:
    """Go on with SEARCH after any end of it."""
    from cluster.remote.located import is_submitted, locate
    from cluster.remote.steering import go_on
    from search.errors import BadInput
    from search.history.folder import Folder
    from search.history.home import Home
    from search.spec.durations import duration

    time = None if wall_clock is None else duration(wall_clock, "--wall-clock")
    given = {"trials": trials, "wall_clock": time, "gpu_hours": gpu_hours}
    more = {key: value for key, value in given.items() if value is not None}
    for key, value in more.items():
        if not 0 < value < math.inf:
            raise BadInput(f"--{key.replace('_', '-')}: expected more than 0, got {value:g}")
    where = locate(search, cluster)
    if is_submitted(where):
        started = go_on(where, cluster, "resume", more=more, retry=retry_failed)
        submitted(started, cluster, wait, output)
        return
    from search.run import resume as resume_search

    assert isinstance(where, Folder)
    console = progress_console(output)
    folder, book = resume_search(Home(), where.id, console, more, retry_failed)
    conclude(folder, book, output)


@click.command()
@STORAGE
@click.argument("search")
@click.option("--top", type=click.IntRange(min=1), help="How many winners; 1 unless set.")
@click.option("--per", type=click.Choice(["optimizer", "search"]), help="Winners of what.")
@click.option(
    "--seeds", type=click.IntRange(min=2), help="Fresh seeds; 3 to 12, as needed, unless set."
)
@CLUSTER
@WAIT
@OUTPUT
def confirm(
    search: str,
    top: int | None,
    per: str | None,
    seeds: int | None,
    cluster: str | None,
    wait: bool,
    output: str,
) -> None:
    """Train the winners of SEARCH again in full, on fresh seeds, and judge them on unseen data."""
    from cluster.remote.located import is_submitted, locate
    from cluster.remote.steering import go_on
    from search.history.folder import Folder
    from search.history.home import Home

    given = {"top": top, "per": per, "seeds": seeds}
    changes = {key: value for key, value in given.items() if value is not None}
    where = locate(search, cluster)
    if is_submitted(where):
        started = go_on(where, cluster, "confirm", given=changes)
        submitted(started, cluster, wait, output)
        return
    from search.run import confirm as confirm_search

    assert isinstance(where, Folder)
    folder, book = confirm_search(Home(), where.id, changes, progress_console(output))
    conclude(folder, book, output)


def submitted(started: dict[str, Any], cluster: str | None, wait: bool, output: str) -> None:
    """Say that a search goes on as a job, and wait for it if asked to."""
    show(
        output,
        started,
        lambda console, row: console.print(
            f"{row['id']} goes on as job {row['job']} on {row['cluster']}", soft_wrap=True
        ),
    )
    if wait:
        from cluster.local.address import the_cluster
        from cluster.remote.following import wait as wait_for
        from search.history.home import Home

        sys.exit(wait_for(the_cluster(cluster, Home()), started["job"]))


@click.command()
@STORAGE
@click.argument("search")
@CLUSTER
@OUTPUT
def stop(search: str, cluster: str | None, output: str) -> None:
    """Begin no new trials in SEARCH, and let the running ones finish."""
    steer(output, search, cluster, "stop", "no new trials; those that run go on to their end")


@click.command()
@STORAGE
@click.argument("search")
@CLUSTER
@OUTPUT
def cancel(search: str, cluster: str | None, output: str) -> None:
    """End SEARCH and all its trials now."""
    steer(output, search, cluster, "cancel", "cancelled")


@click.command()
@STORAGE
@click.argument("search")
@click.argument("trial", type=int)
@CLUSTER
@OUTPUT
def kill(search: str, trial: int, cluster: str | None, output: str) -> None:
    """End one TRIAL of SEARCH for good."""
    steer(output, search, cluster, "kill", f"trial {trial} is told to end", trial=trial)


@click.command()
@STORAGE
@click.argument("search")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="A config.yaml.")
@CLUSTER
@OUTPUT
def add(search: str, config: Path, cluster: str | None, output: str) -> None:
    """Have SEARCH try a config of your own, in full."""
    steer(output, search, cluster, "add", "the config waits for a slot", config=str(config))


def steer(
    output: str, search: str, cluster: str | None, verb: str, meaning: str, **content: Any
) -> None:
    """Leave a request for the driver of a search, and say what comes of it."""
    from cluster.remote.steering import steer as ask_driver

    said = ask_driver(search, cluster, verb, meaning, **content)
    id = said.split()[0].rstrip(":")  # it begins with the whole of it
    trial = {"trial": content["trial"]} if "trial" in content else {}
    show(output, {"id": id, "verb": verb, **trial, "answer": said}, lambda *_: click.echo(said))


@click.command()
@STORAGE
@click.argument("search")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@CLUSTER
@OUTPUT
def rm(search: str, dry_run: bool, cluster: str | None, output: str) -> None:
    """Delete SEARCH: its folder and its MLflow runs."""
    from cluster.remote.steering import remove

    lines = list(remove(search, cluster, dry_run))
    content = {"id": search, "dry_run": dry_run, "answer": lines}
    show(output, content, lambda *_: click.echo("\n".join(lines)))
