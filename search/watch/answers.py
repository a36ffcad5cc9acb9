"""What a cluster answers about its searches, for a client that has nothing but its address.

Each answer is a function of a request, run in a small job on the cluster, that gives JSON.
"""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import socket
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from search.errors import BadInput, DiffsweepError
from search.history.folder import Folder
from search.history.home import Home
from trainable.base.storage import StorageError

if TYPE_CHECKING:
    from search.spec.spec import SearchSpec

ANSWER = "diffsweep-answer:"  # begins the line that holds an answer
CHUNK = 60_000  # characters of a line in a job's log


def say(answer: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> None:
    """Print an answer, or the faults that there is none for."""
    try:
        content = {"content": answer(request)}
    except DiffsweepError as error:
        content = {"faults": list(error.faults), "exit_code": error.exit_code}
    except StorageError as error:
        content = {"faults": [f"storage: {error}"], "exit_code": BadInput.exit_code}
    text = json.dumps(content)
    for start in range(0, len(text), CHUNK):
        print(ANSWER, text[start : start + CHUNK], sep="", flush=True)
    print(ANSWER, "end", sep="", flush=True)


def read_answer(log: str) -> dict[str, Any] | None:
    """The answer in what a job has printed; None while it is not all there."""
    lines = [line.removeprefix(ANSWER) for line in log.splitlines() if line.startswith(ANSWER)]
    if not lines or lines[-1] != "end":
        return None
    found: dict[str, Any] = json.loads("".join(lines[:-1]))
    return found


def folder_of(request: dict[str, Any]) -> Folder:
    return home_of(request).find(request["search"])


def home_of(request: dict[str, Any]) -> Home:
    from search.execution.joined import cluster_home

    return Home(Path(request.get("home") or cluster_home()), request.get("storage"))


def node(request: dict[str, Any]) -> dict[str, Any]:
    """What a submission has to know of the node that this runs on.

    Raises:
        BadInput: the home can't be written, the data is not there, or MLflow does not answer.
    """
    from search.execution.joined import check_everywhere
    from search.history.storage import check_storage
    from search.spec.spec import SearchSpec
    from search.tracking.server import check_reachable, masked, tracking_uri

    spec, home = SearchSpec.model_validate(request["spec"]), home_of(request)
    where, storage = f"on node {socket.gethostname()}", spec.storage or home.storage
    try:
        home.prepare()
        uri = tracking_uri(spec, home)
        check_reachable(uri)
        if storage is not None:
            check_storage(storage)
    except BadInput as error:
        raise BadInput(*(f"{fault} ({where})" for fault in error.faults)) from error
    if storage is not None:
        check_everywhere(storage)
    path = getattr(spec.trial.dataset, "path", None)
    if isinstance(path, str) and "://" not in path and not Path(path).exists():
        raise BadInput(
            f"trial.dataset.path: no {path} {where}; want an s3:// address, a folder that the "
            "nodes have, or a dataset of your own in code: [...]"
        )
    return {
        "python": platform.python_version(),
        "ray": version("ray"),
        "home": str(home.path),
        "storage": storage,
        "tracking": masked(uri),
    }


def described(search: str, spec: SearchSpec, home: str, tracking: str) -> dict[str, str]:
    """What the job of a search says about it to everybody who may see the cluster."""
    need = spec.resources
    return {
        "diffsweep.search": search,
        "diffsweep.name": spec.name,
        "diffsweep.home": home,
        "diffsweep.storage": spec.storage or "",
        "diffsweep.tracking": tracking,
        "diffsweep.needs": f"{need.cpu:g} {need.gpu:g}",
        "diffsweep.trials": str(spec.budget.trials),
    }


def description(request: dict[str, Any]) -> dict[str, str]:
    """The same for a search whose first job the cluster has forgotten."""
    from search.history.log import read_book
    from search.spec.spec import SearchSpec
    from search.tracking.server import masked, tracking_uri

    home, folder = home_of(request), folder_of(request)
    spec = SearchSpec.model_validate(read_book(folder.history).spec)
    return described(folder.id, spec, str(home.path), masked(tracking_uri(spec, home)))


def ls(request: dict[str, Any]) -> Any:
    from search.watch.status import list_searches

    return list_searches(home_of(request))


def status(request: dict[str, Any]) -> Any:
    from search.watch.status import status_of

    return status_of(folder_of(request))


def ending(request: dict[str, Any]) -> Any:
    """Whether its driver is about to end."""
    from search.execution.ready import is_ending

    return is_ending(folder_of(request))


def trials(request: dict[str, Any]) -> Any:
    from search.watch.status import list_trials

    return list_trials(folder_of(request))


def request_(request: dict[str, Any]) -> Any:
    """stop, cancel, kill and add: a request to the driver."""
    from search.watch.operate import ask_driver, chosen_from

    folder, content = folder_of(request), dict(request["wish"])
    if "config" in content:
        with TemporaryDirectory() as temporary:
            path, theirs = Path(temporary) / "config.yaml", content.pop("file")
            path.write_text(content.pop("config"))
            try:
                content["chosen"] = chosen_from(folder, path)
            except BadInput as error:  # in which they look for their own file
                raise BadInput(*(f.replace(str(path), theirs) for f in error.faults)) from error
    return ask_driver(folder, **content)


def logs(request: dict[str, Any]) -> Any:
    from search.watch.logs import log_lines

    return [list(line) for line in log_lines(folder_of(request), request["trial"])]


def report(request: dict[str, Any]) -> Any:
    """The report's content, and its files."""
    from search.answer.report import write_report
    from search.judging.comparing import MARGIN
    from search.takeaway.publish import publish
    from search.watch.status import open_book

    home, folder = home_of(request), folder_of(request)
    book, margin = open_book(folder), request["margin"]
    content = write_report(folder, book, MARGIN if margin is None else margin)
    problem = publish(folder, home, book, content)
    return {"report": content, "problem": problem, "files": packed(folder.report)}


def export(request: dict[str, Any]) -> Any:
    """What was exported, and its files unless they went elsewhere."""
    from search.takeaway.export import export as export_search

    home, folder, to = home_of(request), folder_of(request), request["to"]
    how = (request["per_optimizer"], request["form"], request["trial"])
    if to is not None:
        return {"exported": export_search(folder, home, to, *how), "files": None}
    with TemporaryDirectory() as temporary:
        result = export_search(folder, home, f"{temporary}/to", *how)
        files = packed(Path(temporary) / "to")
    for row in (result, *result["exported"]):
        row["to"] = row["to"].removeprefix(f"{temporary}/to")
    return {"exported": result, "files": files}


def rm(request: dict[str, Any]) -> Any:
    from search.watch.operate import remove

    return list(remove(home_of(request), request["search"], request["dry_run"]))


def packed(folder: Path) -> str:
    """The files of a folder as a ZIP archive in base64."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for root, _, names in os.walk(folder, followlinks=True):
            for name in names:
                path = Path(root) / name
                if "__pycache__" not in path.parts:
                    file.write(path, path.relative_to(folder))
    return base64.b64encode(archive.getvalue()).decode()


def unpack(files: str, folder: Path) -> None:
    """Write what `packed` gave to a folder; nothing outside of it."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(files))) as archive:
        for name in archive.namelist():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{folder}: the archive names {name}, which is outside")
        archive.extractall(folder)


ANSWERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "node": node,
    "description": description,
    "ls": ls,
    "status": status,
    "trials": trials,
    "logs": logs,
    "request": request_,
    "report": report,
    "ending": ending,
    "export": export,
    "rm": rm,
}
