"""`diffsweep init`: a commented spec, and a stub of a model and data of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from search.errors import BadInput

STUB = Path(__file__).parent / "stub"
FILES = {"spec.yaml": "spec.yaml", "mine.py.txt": "modules/mine.py"}  # in STUB -> in the folder


def write_stub(folder: Path) -> Iterator[Path]:
    """Write the files, and tell which.

    Raises:
        BadInput: one is there already, or the folder can't be written.
    """
    targets = {STUB / source: folder / target for source, target in FILES.items()}
    if there := [str(path) for path in targets.values() if path.exists()]:
        raise BadInput(f"{', '.join(there)}: there already; name another folder: init DIR")
    try:
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            yield target
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from error
