"""The exported model as MLflow loads it: give it counts, get samples.

MLflow runs this file where the model is loaded, with `trainable` beside it; nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from trainable.exported import CONFIG, Exported


class DiffusionModel(PythonModel):
    """`predict` with a column `count` returns that many samples, [count, *shape]."""

    def load_context(self, context: PythonModelContext) -> None:
        self.exported = Exported(Path(context.artifacts[CONFIG]).parent)

    # no type hints: MLflow would take them for the schema of a request
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        count = int(np.asarray(model_input["count"]).sum())
        given = {"steps": 40, "seed": 0} | (params or {})
        return self.exported.sample(count, int(given["steps"]), int(given["seed"])).numpy()


set_model(DiffusionModel())
