"""A Ray cluster seen through its dashboard's HTTP API: light, since Ray itself takes seconds."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from search.errors import BadInput

TIMEOUT = 10.0  # seconds for an answer
TOKEN_HELP = "set RAY_AUTH_TOKEN_PATH to its file, or RAY_AUTH_TOKEN"  # noqa: S105
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # a job does not go on


class Job(NamedTuple):
    """A Ray job."""

    id: str
    status: str  # PENDING, RUNNING, or one of ENDED
    message: str  # Ray's own words on the status
    submitted: int  # ms since the epoch
    metadata: dict[str, str]

    @property
    def alive(self) -> bool:
        return self.status not in ENDED


class Node(NamedTuple):
    """A host of the cluster, with what it has and what of that is free."""

    id: str
    ip: str
    head: bool
    cpus: float
    gpus: float


class Gone(BadInput):
    """Raised when the cluster can't say, since the node that knew is gone, or does not answer."""


class Dashboard:
    """The HTTP API of one cluster."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url, self.token = url.rstrip("/"), token
        # a proxy has no business between two processes of one machine
        near = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        proxies = urllib.request.ProxyHandler({} if near else None)
        self._opener = urllib.request.build_opener(proxies)

    def check(self) -> str:
        """Make sure that the cluster can be talked to; its Ray version.

        Raises:
            BadInput: nothing listens there, it is no Ray, or it wants another token.
        """
        mode = self._probe("/api/authentication_mode")["authentication_mode"]
        if mode != "disabled" and not self.token:
            raise BadInput(f"{self.url}: the cluster needs a token; {TOKEN_HELP}")
        version: str = self._probe("/api/version")["ray_version"]
        return version

    def open_to_all(self) -> bool:
        """Whether the cluster lets everybody in."""
        return bool(self._probe("/api/authentication_mode")["authentication_mode"] == "disabled")

    def _probe(self, path: str) -> dict[str, Any]:
        found = self.get(path)
        if not isinstance(found, dict):
            raise BadInput(f"{self.url}: answers, but is no Ray dashboard")
        return found

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path.

        Raises:
            BadInput: there is no answer, or a refusal.
        """
        return self._call("GET", path + (f"?{urlencode(query)}" if query else ""))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                kind = Gone if error.code == 500 else BadInput
                raise kind(f"{self.url}: {self._refusal(error)}") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                raise BadInput(
                    f"{self.url}: nothing listens there; `diffsweep up` starts a cluster here"
                ) from error
            why = getattr(error.reason, "strerror", None) or error.reason
            raise BadInput(f"{self.url}: {why}") from error
        except TimeoutError as error:  # a host that lost its power does not even refuse
            raise Gone(f"{self.url}: no answer in {TIMEOUT:g} seconds") from error
        except (ConnectionError, HTTPException) as error:
            raise BadInput(f"{self.url}: no answer ({error})") from error
        except ValueError as error:
            raise BadInput(f"{self.url}: answers, but is no Ray dashboard") from error

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        """A refusal in plain words."""
        if error.code == 401:
            return f"the cluster needs a token; {TOKEN_HELP}"
        if error.code == 403:
            return f"the cluster refuses this token; {TOKEN_HELP}"
        if error.code == 404:
            return "answers, but is no Ray dashboard (want http://HOST:8265)"
        lines = error.read(4000).decode(errors="replace").strip().splitlines()
        return f"the cluster answers {error.code}: {lines[-1] if lines else error.reason}"

    def jobs(self) -> list[Job]:
        """All jobs that were submitted, in the order of their submission."""
        found = [
            Job(
                job["submission_id"],
                job["status"],
                job["message"] or "",
                job["start_time"] or 0,
                job["metadata"] or {},
            )
            for job in self.get("/api/jobs/")
            if job["submission_id"]
        ]
        return sorted(found, key=lambda job: (job.submitted, job.id))

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        rows = self.get("/api/v0/nodes", detail="True", limit=10_000)["data"]["result"]["result"]
        return [
            Node(
                row["node_id"],
                row["node_ip"],
                row["is_head_node"],
                row["resources_total"].get("CPU", 0),
                row["resources_total"].get("GPU", 0),
            )
            for row in rows
            if row["state"] == "ALIVE"
        ]

    def free(self) -> dict[str, dict[str, float]]:
        """Free CPUs and GPUs of each node, by its id."""
        report = self.get("/api/cluster_status")["data"]["clusterStatus"] or {}
        by_node = (report.get("loadMetricsReport") or {}).get("usageByNode") or {}
        return {
            node.lower(): {
                kind: usage[kind][1] - usage[kind][0] for kind in ("CPU", "GPU") if kind in usage
            }
            for node, usage in by_node.items()
        }

    def trial_actors(self) -> dict[str, list[str]]:
        """The states of each search's trial processes, by the search's id."""
        rows = self.get("/api/v0/actors", limit=10_000)["data"]["result"]["result"]
        found: dict[str, list[str]] = {}
        for row in rows:
            if row["class_name"].startswith(TRIALS_OF):
                search = row["class_name"].removeprefix(TRIALS_OF)
                found.setdefault(search, []).append(row["state"])
        return found

    def logs(self, job: str) -> str:
        """All that a job has printed. Raises Gone where the node that it ran on is."""
        text: str = self.get(f"/api/jobs/{quote(job)}/logs")["logs"] or ""
        return text

    def stop(self, job: str) -> None:
        """Ask a job to end, as by Ctrl-C."""
        self._call("POST", f"/api/jobs/{quote(job)}/stop")

    def delete(self, job: str) -> None:
        """Forget a job that has ended."""
        self._call("DELETE", f"/api/jobs/{quote(job)}")

    def submit(self, **job: Any) -> None:
        """Submit a job whose files the cluster has already."""
        self._call("POST", "/api/jobs/", job)


TRIALS_OF = "trials-of-"  # begins the class name of a search's trial processes


def token_from_environment() -> str | None:
    """The cluster's token, from where Ray itself would take it.

    Raises:
        BadInput: RAY_AUTH_TOKEN_PATH names a file that can't be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text().strip()
    except OSError as error:
        if given:
            raise BadInput(f"RAY_AUTH_TOKEN_PATH: {given}: {error.strerror}") from error
    return None
