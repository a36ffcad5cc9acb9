"""The MLflow UI on the right store."""

from __future__ import annotations

import os
import socket
import sys

from search.errors import BadInput
from search.history.home import Home
from search.tracking.recorder import experiment_of
from search.tracking.views import link

SHOWN = 5  # links to searches


def serve(home: Home, host: str, port: int) -> None:
    """Become an MLflow server on the home's store, on loopback unless told otherwise.

    Raises:
        BadInput: there is no store yet, the port is taken, or the records are on another server.
    """
    if (uri := os.environ.get("MLFLOW_TRACKING_URI", "")).startswith("http"):
        raise BadInput(f"MLFLOW_TRACKING_URI: the searches are recorded at {uri}, look there")
    if not uri and not home.store.exists():
        raise BadInput(f"{home.path}: no searches here yet; begin with: diffsweep run SPEC")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"--port {port}: {error.strerror} on {host}; try --port {port + 1}"
            ) from error
    server = f"http://{host}:{port}"
    print(f"MLflow UI: {server} in a few seconds (Ctrl-C ends it; its log is {home.path}/ui.log)")
    for name, experiment in recorded_in(home).items():
        print(f"  {name}: {link(server, experiment)}")
    sys.stdout.flush()
    os.environ |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for what isn't used
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": uri or home.store_uri,  # not in `ps`: a password
    }
    arguments = ["-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    artifacts = ["--default-artifact-root", home.artifacts.as_uri()]
    log = os.open(home.path / "ui.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    for stream in (1, 2):  # a line for each request is not for the terminal
        os.dup2(log, stream)
    os.execv(sys.executable, [sys.executable, *arguments, *artifacts])  # noqa: S606


def recorded_in(home: Home) -> dict[str, str]:
    """The newest searches and the MLflow experiment of each, each experiment once."""
    newest: dict[str, str] = {}  # experiment -> search
    for folder in home.searches():
        if (experiment := experiment_of(folder)) is not None:
            newest[experiment] = folder.id
    return {search: experiment for experiment, search in list(newest.items())[-SHOWN:]}
