"""The rooms of the code, from the ground up: the order that imports keep to."""

from __future__ import annotations

from pathlib import Path

from support.paths import ROOT

PACKAGES = ("trainable", "search", "cluster")
# A room is a folder, or a file beside the folders. Each may import those before it, and whatever
# a package before its own has.
ROOMS = {
    "trainable": (
        *("base", "metrics", "parallel", "data", "data.loaders", "models", "diffusion"),
        *("optimizers", "config", "config_file", "exported", "contract", "preflight", "train"),
        *("report", "quality", "actor", "rehearsal", "solo", "__main__"),
    ),
    "search": (
        *(
            "errors",
            "history",
            "judging",
            "spec",
            "engine",
            "answer",
            "tracking",
            "takeaway",
            "execution",
        ),
        *("forecast", "watch", "run", "__main__"),
    ),
    "cluster": ("apart", "local", "remote", "hosts", "commands", "cli"),
}
ORDER = [f"{package}.{room}" for package in PACKAGES for room in ROOMS[package]]


def name_of(path: Path) -> str:
    """A file's name as a module; of an __init__.py, the folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}
