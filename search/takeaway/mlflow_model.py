"""The exported model as MLflow's pyfunc loads it: give it counts, get samples.

MLflow runs this file where the model is loaded, with `trainable` beside it; nothing is unpickled.
"""

# no `from __future__ import annotations`: MLflow reads the types of `predict`
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from trainable.exported import CONFIG, Exported

DEFAULTS = {"steps": 40, "seed": 0}


class DiffusionModel(PythonModel):
    """A row asks for `count` samples: of the class `label`, or told the numbers in `condition`."""

    def load_context(self, context: PythonModelContext) -> None:
        self.exported = Exported(Path(context.artifacts[CONFIG]).parent)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """Samples, [the sum of counts, *shape], in the order of the rows."""
        counts = model_input["count"].to_numpy()
        asked = [column for column in ("label", "condition") if column in model_input]
        labels = (
            np.repeat(np.stack(list(model_input[asked[0]])), counts, axis=0) if asked else None
        )
        given = DEFAULTS | (params or {})
        drawn = self.exported.sample(
            int(counts.sum()), int(given["steps"]), int(given["seed"]), labels
        )
        samples: np.ndarray = drawn.numpy()
        return samples


set_model(DiffusionModel())
