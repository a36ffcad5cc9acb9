"""Commands for clusters: start one here, and send searches to one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.commands.shared import CLUSTER, OUTPUT, OVERRIDES, SPEC, STORAGE, show

if TYPE_CHECKING:
    from rich.console import Console

PORT = click.IntRange(1, 65535)


HOSTS = click.option(
    "--hosts",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="An inventory of machines, which are reached by ssh.",
)


@click.command()
@click.option("--ray-port", type=PORT, help="Of Ray's dashboard; 8265 or a free one unless set.")
@click.option("--mlflow-port", type=PORT, help="5000 or a free one unless set.")
@HOSTS
@OUTPUT
def up(ray_port: int | None, mlflow_port: int | None, hosts: Path | None, output: str) -> None:
    """Start a local cluster: a Ray head that wants a token, and MLflow, on loopback alone. With
    --hosts, a cluster on these machines; ports and MLflow's address are in the inventory then."""
    from cluster.hosts.hosts import up_hosts
    from cluster.hosts.inventory import load_inventory
    from cluster.local.up import up as start
    from search.history.home import Home

    def say(text: str) -> None:
        click.echo(text, err=True)

    if hosts is not None:
        if ray_port or mlflow_port:
            raise click.UsageError("--hosts takes its ports from the inventory")
        local = up_hosts(Home(), load_inventory(hosts), say)
    else:
        local = start(Home(), ray_port, mlflow_port, say)
    content = {key: local[key] for key in ("ray", "mlflow", "token")}

    def text(console: Console, content: dict[str, Any]) -> None:
        from search.watch.shown import program

        console.print(f"Ray:    {content['ray']} (token in {content['token']})", soft_wrap=True)
        console.print(f"MLflow: {content['mlflow'] or 'none in the inventory'}")
        console.print(f"Next:   {program()} submit SPEC, {program()} status, {program()} down")

    show(output, content, text)


@click.command()
@HOSTS
def down(hosts: Path | None) -> None:
    """End the local cluster, or the one on --hosts. Its searches are interrupted; after `up`,
    `resume` goes on."""
    from cluster.hosts.hosts import down_hosts
    from cluster.hosts.inventory import load_inventory
    from cluster.local.up import down as end
    from search.history.home import Home
    from search.watch.status import list_searches

    if hosts is not None:
        click.echo(f"ended on {', '.join(down_hosts(Home(), load_inventory(hosts)))}")
        return
    running = [row["id"] for row in list_searches(Home()) if row["state"] == "running"]
    ended = end(Home())
    click.echo(f"ended {' and '.join(ended)}" if ended else "nothing was up")
    for row in list_searches(Home()):
        if row["id"] in running and row["state"] == "interrupted":
            click.echo(f"{row['id']} is interrupted; after `up`: diffsweep resume {row['id']}")


@click.command()
@STORAGE
@SPEC
@OVERRIDES
@click.option(
    "--from", "earlier", multiple=True, metavar="ID", help="Learn from an earlier search there."
)
@CLUSTER
@click.option("--wait", is_flag=True, help="Stay until it ends, and show its log.")
@OUTPUT
def submit(
    spec: Path,
    overrides: tuple[str, ...],
    earlier: tuple[str, ...],
    cluster: str | None,
    wait: bool,
    output: str,
) -> None:
    """Run the search of SPEC on a cluster."""
    from cluster.local.address import the_cluster
    from cluster.remote.following import wait as wait_for
    from cluster.remote.submit import next_commands
    from cluster.remote.submit import submit as submit_search
    from search.history.home import Home
    from search.spec.loading import load_spec

    loaded = load_spec(spec, overrides)
    dashboard = the_cluster(cluster, Home())
    if dashboard.open_to_all():
        click.echo(f"warning: {dashboard.url} wants no token; who reaches it runs code", err=True)
    result = submit_search(dashboard, loaded, earlier)

    def text(console: Console, content: dict[str, Any]) -> None:
        from search.watch.shown import program

        console.print(f"[bold]{content['id']}[/] on {content['cluster']}", soft_wrap=True)
        console.print(f"MLflow: {content['mlflow']}", soft_wrap=True)
        console.print("Next:")
        for line in next_commands(content, program()):
            console.print(f"  {line}", soft_wrap=True, highlight=False)

    show(output, result, text)
    if wait:
        sys.exit(wait_for(dashboard, result["id"]))


@click.command()
@STORAGE
@click.argument("search")
@click.argument("trial", type=int, required=False)
@click.option("-f", "--follow", "follows", is_flag=True, help="Show what comes until it ends.")
@CLUSTER
@OUTPUT
def logs(search: str, trial: int | None, follows: bool, cluster: str | None, output: str) -> None:
    """Show what SEARCH did and said, or one TRIAL of it with what its process printed."""
    import json

    from cluster.remote import following
    from cluster.remote.located import locate
    from search.history.folder import Folder
    from search.watch.logs import follow, log_lines

    where = locate(search, cluster)
    if not isinstance(where, Folder) and trial is None and where.jobs:
        for text in following.logs(where, follows):
            click.echo(json.dumps({"text": text}) if output == "json" else text)
        return
    if isinstance(where, Folder):
        found = follow(where, trial) if follows else iter(log_lines(where, trial))
    else:
        found = following.trial_logs(where, trial, follows)
    for line in found:
        click.echo(json.dumps(line._asdict()) if output == "json" else str(line))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
def init(folder: Path) -> None:
    """Write a commented spec, and a stub for a model and data of your own, to FOLDER."""
    from search.spec.starter import write_stub

    for path in write_stub(folder):
        click.echo(f"wrote {path}")
    click.echo(f"Next: diffsweep check {folder / 'spec.yaml'} --smoke")
