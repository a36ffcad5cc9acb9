"""Tables of numbers: CSV, Parquet, or scikit-learn's, with each fault told by row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


def load_table(
    path: str | None,
    name: str | None,
    columns: tuple[str, ...] | None,
    label: str | None,
) -> Any:
    """Rows as float32 [N, columns], with the classes in the column `label` if it is given.

    Raises:
        ValueError: the file can't be read, lacks a column, or has a value that is no number.
    """
    table = bundled(name) if name else read_table(str(path))
    source = name or str(path)
    if name and columns is None:
        columns = tuple(column for column in table.column_names if column != "target")
    if columns is None:
        columns = tuple(column for column in table.column_names if column != label)
    for column in (*columns, *([label] if label else [])):
        if column not in table.column_names:
            known = ", ".join(table.column_names[:12])
            raise ValueError(f"dataset table: {source} has no column '{column}' (it has {known})")
    x = np.stack([numbers(table, column, source) for column in columns], axis=1)
    return (x, classes(table, label, source)) if label else x


def read_table(path: str) -> pa.Table:
    """A CSV file with a line of names, or a Parquet file.

    Raises:
        ValueError: it can't be read.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ValueError(f"dataset table: {path}: need a .csv or a .parquet file")
    try:
        if suffix == ".parquet":
            from pyarrow import parquet

            return parquet.read_table(path)
        from pyarrow import csv

        # a missing word is missing, and no word of its own
        options = csv.ConvertOptions(strings_can_be_null=True)
        table = csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowInvalid) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"dataset table: {path}: {reason}") from error
    check_names(table.column_names, path)
    return table


def check_names(names: list[str], path: str) -> None:
    """Raises ValueError where the first line of a CSV file holds values in place of names."""
    if all(is_number(name) for name in names):
        raise ValueError(
            f"dataset table: {path}: its first line holds numbers ({', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''}), need the names of the columns there"
        )


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def bundled(name: str) -> pa.Table:
    """One of scikit-learn's tables, its target in the column `target`."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = {str(n): bunch.data[:, i] for i, n in enumerate(bunch.feature_names)}
    return pa.table({**columns, "target": bunch.target})


def numbers(table: pa.Table, column: str, source: str) -> np.ndarray:
    """A column as float32 [N].

    Raises:
        ValueError: it holds something else, or a value is missing.
    """
    values = table[column].combine_chunks()
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(
            f"dataset table: {source}: column '{column}' holds {_kind(kind)}, not numbers; name "
            "the columns to use with columns: [...], or give it as the label"
        )
    if values.null_count:
        row = np.flatnonzero(np.asarray(values.is_null()))[0]
        raise ValueError(missing("number", source, row, column, values.null_count))
    x: np.ndarray = values.to_numpy(zero_copy_only=False).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise ValueError(missing("number", source, bad[0], column, len(bad)))
    return x


def classes(table: pa.Table, label: str, source: str) -> np.ndarray:
    """A column of words or whole numbers as classes, int64 [N], numbered in their order."""
    values = table[label].combine_chunks()
    if pa.types.is_floating(values.type):
        raise ValueError(f"dataset table: {source}: label '{label}' holds fractions, not classes")
    if values.null_count:
        row = np.flatnonzero(np.asarray(values.is_null()))[0]
        raise ValueError(missing("label", source, row, label, values.null_count))
    numbered: np.ndarray = np.unique(values.to_numpy(zero_copy_only=False), return_inverse=True)[1]
    return numbered


def missing(what: str, source: str, row: int, column: str, count: int) -> str:
    """What to say of missing values; rows are counted from 1, a CSV's line of names left out."""
    more = f", and {count - 1} more in that column" if count > 1 else ""
    return f"dataset table: {source}: no {what} in row {row + 1}, column '{column}'{more}"


def _kind(kind: pa.DataType) -> str:
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
