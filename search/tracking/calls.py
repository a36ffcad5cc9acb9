"""Changes of runs as calls of MLflow's client: a few at once, for a server or any other store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from search.tracking.change import Change

if TYPE_CHECKING:
    from mlflow import MlflowClient

AT_ONCE = 8  # runs; each waits for the answers of its own calls
MOST = 800  # metrics in one call; MLflow takes a thousand entries, of which some are tags


class Calls:
    """Three calls for a run that came and went since the last time, and one for each text."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client, self.experiment = client, experiment

    def write(self, changes: list[Change]) -> None:
        with ThreadPoolExecutor(AT_ONCE, "calls") as pool:
            for _ in pool.map(self._write, changes):  # raises what the first of them raised
                pass

    def _write(self, change: Change) -> None:
        tags = change.tags
        if change.run is None:
            made = self.client.create_run(
                self.experiment, start_time=change.started, tags=tags, run_name=change.name
            )
            change.run, tags = made.info.run_id, {}
        self._log(change.run, change, tags)
        for name, text in change.texts.items():
            self.client.log_text(change.run, text, name)
        if change.ended is not None:
            self.client.set_terminated(change.run, change.status, change.ended)
        elif change.status is not None:
            self.client.update_run(change.run, status=change.status)

    def _log(self, run: str, change: Change, tags: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in change.points]
        while len(metrics) > MOST:
            self.client.log_batch(run, metrics=metrics[:MOST])
            metrics = metrics[MOST:]
        params = [Param(key, value) for key, value in change.params.items()]
        if metrics or params or tags:
            self.client.log_batch(run, metrics, params, [RunTag(k, v) for k, v in tags.items()])
