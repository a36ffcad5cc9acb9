"""How the MLflow UI shows a search: saved views of its runs, and colours.

MLflow keeps a saved view in a tag of the experiment, as JSON with its state deflated. A view that
is there already stays as it is: someone may have changed it.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

TRIALS, CURVES = "diffsweep-trials", "diffsweep-curves"  # the keys of the views, as in their links
TAG = "mlflow.sharedViewState."
SECTION = "diffsweep"
# told apart with any colour vision (Okabe & Ito 2008); one for each optimizer of a search
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
QUARTILES = tuple(f"val_loss_q{q}" for q in range(1, 5))
SHARED = ("warmup", "lr_schedule", "clip_norm")  # searched for every optimizer


def view_tags(mode: str) -> dict[str, str]:
    """The tags of an experiment that hold its views; `mode` of the objective: min or max."""
    all_trials = "tags.`diffsweep.stage` = 'search'"
    ranking: dict[str, Any] = {
        "searchFilter": f"{all_trials} and tags.`diffsweep.state` = 'complete'",
        "orderByKey": "metrics.`val_loss`",
        "orderByAsc": mode == "min",
        "selectedColumns": [
            "metrics.`val_loss`",
            *(f"params.`{name}`" for name in ("optimizer.lr", *SHARED)),
        ],
        "columnOrder": [],
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [{"uuid": SECTION, "name": "Trials", "display": True}],
    }
    curves = {
        "searchFilter": all_trials,  # those stopped early as well
        "groupBy": {
            "aggregateFunction": mode,  # the best that any of its trials had at that step
            "groupByKeys": [{"mode": "param", "groupByData": "optimizer"}],
        },
        "compareRunCharts": [_line(name) for name in ("val_loss", *QUARTILES, "grad_norm")],
    }
    ranking["compareRunCharts"] = [
        _line("val_loss"),
        _chart("SCATTER", "lr", xaxis=_param("optimizer.lr"), yaxis=_metric("val_loss")),
        _chart("IMAGE", "samples", imageKeys=["samples"], step=0, showRunParams=False),
        _chart(
            "PARALLEL",
            "settings",
            selectedParams=["optimizer", "optimizer.lr", *SHARED],
            selectedMetrics=["val_loss"],
            showAllRuns=True,
        ),
        *(_line(name) for name in ("train_loss", "grad_norm")),
    ]
    return {
        TAG + TRIALS: _packed("Complete trials, best first", ranking),
        TAG + CURVES: _packed("Best curves by optimizer", ranking | curves),
    }


def link(server: str, experiment: str) -> str:
    """The page with the trials of an experiment, in the part of the UI that is for training."""
    query = f"viewStateShareKey={TRIALS}&workflowType=machine_learning"
    return f"{server}/#/experiments/{experiment}/runs?{query}"


def colour(optimizer: str, optimizers: list[str]) -> str:
    """The colour of an optimizer's runs in charts."""
    return COLOURS[optimizers.index(optimizer) % len(COLOURS)]


def _line(metric: str) -> dict[str, Any]:
    """A chart of a metric over the steps."""
    return _chart("LINE", metric, metricKey=metric, xAxisKey="step", scaleType="linear")


def _chart(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    shared = {"type": kind, "uuid": f"{SECTION}-{kind}-{name}", "metricSectionId": SECTION}
    return shared | {"deleted": False, "isGenerated": False, "runsCountToCompare": 100} | settings


def _param(name: str) -> dict[str, str]:
    return {"key": name, "type": "PARAM"}


def _metric(name: str) -> dict[str, str]:
    return {"key": name, "type": "METRIC"}


def _packed(name: str, state: dict[str, Any]) -> str:
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(view)
