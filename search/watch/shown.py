"""What a search is doing and what it found, as people read it in a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from search.answer.describe import number
from search.engine.analysis import best, pareto
from search.history.book import Book
from search.history.folder import Folder
from search.watch.status import failures
from search.watch.tables import best_config, clock, compact, front_table, result_table, show_rows

# why a complete search ended, and how `resume` adds to it
SPENT = {
    "trials": ("its budget of trials is spent", "--trials 20"),
    "wall_clock": ("its budget of time is spent", "--wall-clock 1h"),
    "gpu_hours": ("its budget of GPU-hours is spent", "--gpu-hours 1"),
}


def show_list(console: Console, searches: list[dict[str, Any]]) -> None:
    if not searches:
        console.print("No searches yet. Begin with: diffsweep run SPEC")
        return
    table = compact()
    for column in ("id", "state", "trials", "best\nval_loss", "by", "started"):
        table.add_column(column, overflow="fold")
    for row in searches:
        top = row["best"]
        table.add_row(
            row["id"],
            row["state"],
            str(row["trials"]),
            number(top and top["val_loss"]),
            f"{top['optimizer']}-{top['trial']}" if top else "-",
            (row["started"] or "-").removesuffix("+00:00").replace("T", " "),
        )
    console.print(table)


def show_status(console: Console, status: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in status["trials"].items())
    used = status["budget"]
    console.print(f"[bold]{status['id']}[/]: {status['state']}  {counts or 'no trials yet'}")
    console.print(
        f"budget: {used['trials']['used']} of {used['trials']['of']} trials, {_time_used(used)}"
        + (f", about {clock(status['seconds_left'])} left" if status["seconds_left"] else "")
    )
    if status["state"] == "complete" and status.get("why") in SPENT:
        console.print(f"{SPENT[status['why']][0]}; {how_to_add(status['id'], status['why'])}")
    if status.get("why") and status["state"] in ("pending", "running", "failed"):
        console.print(status["why"], soft_wrap=True, highlight=False, markup=False)
    show_failures(console, status.get("failed", ()))
    if top := status["best"]:
        console.print(f"best: {top['optimizer']}-{top['trial']}, val_loss {top['val_loss']:.4f}")
    columns = ("trials", "complete", "stopped\nearly", "diverged", "best\nval_loss")
    table = compact()
    table.add_column("optimizer", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for optimizer, row in status["optimizers"].items():
        counted = (str(row[key]) for key in ("trials", "complete", "pruned", "diverged"))
        table.add_row(optimizer, *counted, number(row["best"] and row["best"]["val_loss"]))
    console.print(table)
    if status.get("pareto") is not None:
        console.print(front_table(status["pareto"]))


def _time_used(used: dict[str, Any]) -> str:
    """Time and GPU-hours, each with its limit if it has one."""
    time_used, hours = used["wall_clock"], used.get("gpu_hours")
    said = clock(time_used["used"]) + (f" of {clock(time_used['of'])}" if time_used["of"] else "")
    if hours is None:  # of a search that has not begun
        return f"{said} of time"
    limit = f" of {hours['of']:g}" if hours["of"] else ""
    return f"{said} of time, {hours['used']:.2f}{limit} {hours['counts']}-hours"


def how_to_add(search: str, why: str | None) -> str:
    """How a complete search goes on: with more of the budget that ended it."""
    flag = SPENT.get(why or "trials", SPENT["trials"])[1]
    return f"`diffsweep resume {search} {flag}` adds to it"


def show_failures(console: Console, failed: Sequence[dict[str, Any]]) -> None:
    """A line for each trial that failed: why it did."""
    for row in failed:
        lines = (row["why"] or "").strip().splitlines() or [""]
        # before causes were told, a reason was the end of a traceback
        old = "Traceback" in lines[0] or lines[0].partition(": ")[2].startswith("  File")
        text = f"{row['optimizer']}-{row['trial']} failed: {lines[-1 if old else 0]}"
        console.print(text, style="red", highlight=False, markup=False)


def show_trials(console: Console, trials: list[dict[str, Any]]) -> None:
    several = list(trials[0].get("objectives", {}))[1:] if trials else []
    settings = () if several else ("lr_schedule", "clip")  # for both there is no room
    metrics = (metric.replace("_", "\n") for metric in (*several, *(["front"] if several else [])))
    columns = ("trial", "state", "stage", "step", "val_loss", "lr", *settings, *metrics)
    show_rows(console, columns, [_cells(row, several) for row in trials])
    show_failures(console, [row for row in trials if row["state"] == "failed"])


def _cells(row: dict[str, Any], several: Sequence[str]) -> list[str]:
    config = row["config"]
    if several:
        more = [number(row["objectives"][metric], ".4g") for metric in several]
        more.append("*" if row["pareto"] else "")
    else:
        more = [config["lr_schedule"], str(config["clip_norm"] or "-")]
    return [
        f"{row['optimizer']}-{row['trial']}",
        row["state"],
        row["stage"],
        str(row["step"]),
        number(row["val_loss"]),
        f"{config['optimizer']['lr']:.2g}",
        *more,
    ]


def show_result(folder: Folder, book: Book, console: Console) -> None:
    """The table, the best config, where the export lies, and the next commands."""
    from search.answer.content import report_of
    from search.answer.report import show_answer  # with its statistics, which take a second

    console.print(result_table(book))
    if (found := pareto(book)) is not None:
        console.print(front_table(found))
    console.print(best_config(book))
    show_failures(console, failures(book))
    if book.state == "interrupted":
        console.print(f"Interrupted. Go on with: [bold]{program()} resume {book.id}[/]")
        return
    if best(book) is not None:
        show_answer(folder, report_of(book), console)
        console.print(f"Exported to {folder.best}", soft_wrap=True)
        console.print("Next:")
        commands = {
            f"report {book.id}": "the answer as a page, with its plots",
            "ui": "browse every trial in MLflow",
            f"trials {book.id}": "what each trial did",
            f"export {book.id} --to DIR": "the config and weights, where you want them",
            f"train {folder.best}/config.yaml": "train the best config again",
        }
        for command, meaning in commands.items():
            console.print(f"  [bold]{program()} {command}[/]  [dim]{meaning}[/]", soft_wrap=True)


def program() -> str:
    """How the command is called from here: by its path where its environment is not active."""
    own = Path(sys.executable).parent / "diffsweep"
    if not own.exists() or shutil.which("diffsweep") == str(own):
        return "diffsweep"
    here = Path.cwd()
    return str(own.relative_to(here) if own.is_relative_to(here) else own)
