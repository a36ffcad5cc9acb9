"""Before anything else is imported: that no file of the user's takes the place of a module.

Folders in PYTHONPATH come before the packages that are installed, and before Python's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("search", "trainable")


def taken(path: str, home: Path) -> Iterator[str]:
    """A line for each module that one in a folder of PYTHONPATH would hide.

    `home` is the folder that our own packages are in.
    """
    for folder in filter(None, path.split(os.pathsep)):
        if Path(folder).resolve() == home:
            continue
        for name in (*PACKAGES, *sorted(names_in(Path(folder)) & sys.stdlib_module_names)):
            found = PathFinder.find_spec(name, [folder])
            if found is not None and found.origin is not None:
                whose = "diffsweep's" if name in PACKAGES else "Python's"
                yield (
                    f"PYTHONPATH: {found.origin} takes the place of {whose} module '{name}'; "
                    "rename it, or leave its folder out of PYTHONPATH"
                )


def names_in(folder: Path) -> set[str]:
    """What could be imported from a folder, by the names of its files and folders."""
    try:
        return {path.stem for path in folder.iterdir()}
    except OSError:
        return set()


def refuse() -> None:
    """Exit, as bad input does, where something is hidden."""
    if faults := list(
        taken(os.environ.get("PYTHONPATH", ""), Path(__file__).resolve().parents[1])
    ):
        print(*faults, sep="\n", file=sys.stderr)
        raise SystemExit(2)


if Path(sys.argv[0]).stem in ("diffsweep", "cli"):  # the command, and no program that imports us
    refuse()
