"""An export as an MLflow model, for `mlflow.pyfunc` and for `mlflow.pytorch`, without any pickle.

The pyfunc samples (see mlflow_model.py). The PyTorch flavour is the network alone, as a graph
that torch.export wrote: it can be called, and fine-tuned, without the code that defined it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

import trainable
from trainable.exported import WEIGHTS, Examples, Exported

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

HERE = Path(__file__).parent
TRAINABLE = Path(trainable.__path__[0])  # on a cluster, not beside this package
PACKAGES = ("mlflow", "numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors", "torch")
TRACED = 3  # examples in the traced batch: a size of 1 would be taken for fixed
logger = logging.getLogger("diffsweep.publish")


def save_model(
    export: Path, target: Path, model: Model, code: Iterable[str], graph: Path | None = None
) -> str | None:
    """Write the export in a folder as an MLflow model to `target`.

    `code` are the folders of the user's own modules, which go with it. `graph` is where
    `write_graph` may have written the network's. Returns why there is no PyTorch flavour, if
    there is none: torch can't export every network.
    """
    import mlflow.pyfunc

    examples = Examples.read(export / WEIGHTS)
    own = [path for folder in code for path in modules_in(Path(folder))]
    with warnings.catch_warnings():
        # MLflow would like an example of a request; the signature says it all
        warnings.filterwarnings("ignore", ".*input example was not provided")
        mlflow.pyfunc.save_model(
            str(target),
            mlflow_model=model,
            python_model=str(HERE / "mlflow_model.py"),
            artifacts={path.name: str(path) for path in export.iterdir()},
            code_paths=[str(path) for path in (TRAINABLE, *own)],
            pip_requirements=[f"{package}=={version(package)}" for package in PACKAGES],
            signature=asked_for(examples),
        )
    try:
        with tempfile.TemporaryDirectory() as temporary:
            if graph is None or not graph.exists():
                graph = Path(temporary) / "graph"
                write_graph(Exported(export, device="cpu"), graph)
            add_graph(graph, target)
    except Exception as error:  # torch raises many kinds; the model is of use without it
        logger.warning("no mlflow.pytorch flavour", exc_info=True)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300]}"
    return None


def modules_in(folder: Path) -> list[Path]:
    """The packages and modules in a folder of the user's own code."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    )


def asked_for(examples: Examples) -> ModelSignature:
    """What the pyfunc is given: a count for each row, with a label or a condition."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array

    columns: list[ColSpec | TensorSpec] = [ColSpec("long", "count")]
    if examples.classes:
        columns.append(ColSpec("long", "label", required=False))
    if examples.features:
        columns.append(ColSpec(Array(DataType.double), "condition"))
    params = [ParamSpec("steps", "long", 40), ParamSpec("seed", "long", 0)]
    return ModelSignature(inputs=Schema(columns), params=ParamSchema(params))


def write_graph(exported: Exported, target: Path) -> None:
    """Write the network as a graph, in an MLflow model of its own.

    Raises:
        ValueError: the graph is of one batch size only.
    """
    import mlflow.pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    network = exported.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = call(exported.examples, TRACED)
    specs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(str(x.dtype).removeprefix("torch.")), (-1, *x.shape[1:]), name)
        for name, x in inputs.items()
    ]
    mlflow.pytorch.save_model(
        network,
        str(target),
        input_example=tuple(inputs.values()),
        signature=ModelSignature(inputs=Schema(specs)),
        serialization_format="pt2",
        pip_requirements=[f"torch=={version('torch')}"],
    )
    check_any_batch(mlflow.pytorch.load_model(str(target)), exported.examples)


def add_graph(graph: Path, target: Path) -> None:
    """Add the network's graph to the MLflow model in `target`, as its PyTorch flavour."""
    from mlflow.models import Model

    flavor = Model.load(str(graph)).flavors["pytorch"]
    shutil.copytree(graph / flavor["model_data"], target / flavor["model_data"])
    model = Model.load(str(target))
    model.add_flavor("pytorch", **flavor | {"code": model.flavors["python_function"]["code"]})
    model.save(str(target / "MLmodel"))


def check_any_batch(network: nn.Module, examples: Examples) -> None:
    """Make sure that a traced network takes batches of any size, not just the traced one.

    Raises:
        ValueError: it does not.
    """
    try:
        network(*call(examples, TRACED + 1).values())
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"its graph takes {TRACED} examples only, as it was traced; a forward() that says "
            "x.shape[0] in place of len(x) is traced for any number"
        ) from error


def call(examples: Examples, count: int) -> dict[str, Tensor]:
    """What the network is called with, by the names of its arguments."""
    inputs = {"x": torch.zeros(count, *examples.shape), "t": torch.zeros(count)}
    if examples.classes:
        inputs["labels"] = torch.zeros(count, dtype=torch.long)
    elif examples.features:
        inputs["labels"] = torch.zeros(count, examples.features)
    return inputs
