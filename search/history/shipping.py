"""The user's own code in storage, so that a search can go on where its files are not."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from search.history.folder import Folder
from trainable.base.durable import DRAFT
from trainable.base.storage import Storage

INDEX = "code/index.json"  # original folder -> its name in storage


def put_code(folder: Folder, paths: tuple[str, ...]) -> None:
    """Keep folders of code in storage, by their content.

    The index names what is there in full: it comes last.
    """
    if folder.storage is None or not paths:
        return
    index = _index(folder)
    for path in paths:
        name = f"{Path(path).name}-{digest(Path(path))}"
        if name not in index.values():
            for file in _files(Path(path)):
                folder.storage.upload(file, f"code/{name}/{file.relative_to(path).as_posix()}")
        index[path] = name
    folder.storage.write(INDEX, json.dumps(index).encode())


def get_code(folder: Folder) -> dict[str, str]:
    """Bring the code that is not here any more; where each original folder now lies."""
    places = {}
    for path, name in (_index(folder) if folder.storage is not None else {}).items():
        if Path(path).is_dir():
            continue
        assert folder.storage is not None
        places[path] = str(folder.code / name)
        if not (folder.code / name).exists():
            _bring(folder.storage, name, folder.code / name)
    return places


def bring_own(folder: Folder) -> None:
    """Bring the code of a submitted search to its folder, from where the spec names it."""
    if folder.storage is None:
        return
    for path, name in _index(folder).items():
        if not Path(path).is_absolute() and not (folder.own / path).exists():
            _bring(folder.storage, name, folder.own / path)


def _bring(storage: Storage, name: str, to: Path) -> None:
    """Bring a folder of code, which is there in full or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=to.parent) as draft:
        storage.get_folder(f"code/{name}", Path(draft) / "code")
        (Path(draft) / "code").rename(to)


def moved(config: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    """A config, or a spec, with its code where it now lies."""
    if not places or not config.get("code"):
        return config
    return config | {"code": [places.get(path, path) for path in config["code"]]}


def digest(path: Path) -> str:
    """Of the names and the content of a folder's files."""
    found = hashlib.sha256()
    for file in _files(path):
        found.update(f"{file.relative_to(path).as_posix()}\0".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    def wanted(file: Path) -> bool:
        inner = file.relative_to(path).parts
        return file.is_file() and not any(p == "__pycache__" or p.startswith(".") for p in inner)

    return [file for file in sorted(path.rglob("*")) if wanted(file)]


def _index(folder: Folder) -> dict[str, str]:
    assert folder.storage is not None
    try:
        found: dict[str, str] = json.loads(folder.storage.read(INDEX))
    except FileNotFoundError:
        found = {}
    return found
