"""Tables of numbers: CSV, Parquet, or scikit-learn's, with each fault told by row and column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from trainable.data.examples import as_float64
from trainable.data.returned import Loaded

# the names under which pandas writes an index that has none of its own
INDEX = re.compile(r"|Unnamed: \d+|index|level_\d+|__index_level_\d+__")
SEPARATORS = {";": "';'", "\t": r'"\t"', "|": "'|'"}  # beside the comma, as they stand in YAML
HEADER_BYTES = 1 << 20  # that a line of names may take


def load_table(
    path: str | None,
    name: str | None,
    columns: tuple[str, ...] | None,
    label: str | None,
    delimiter: str | None = None,
) -> Loaded:
    """Rows as float64 [N, columns], with the classes in the column `label` if it is given.

    Raises:
        ValueError: the file can't be read, lacks a column, or has a value that is no number.
    """
    table = bundled(name) if name else read_table(str(path), delimiter)
    source, notes = name or str(path), []
    if columns is None:
        aside = "target" if name else label
        columns = tuple(column for column in table.column_names if column != aside)
        index = [column for column in columns if is_index(table, column)]
        columns = tuple(column for column in columns if column not in index)
        for column in index:
            notes.append(
                f"column '{column}' numbers the rows and is left out; to train on it, name it in "
                "columns: [...]"
            )
    if not columns:
        raise ValueError(f"dataset table: {source}: has no column to train on")
    for column in (*columns, *([label] if label else [])):
        if (count := table.column_names.count(column)) != 1:
            known = ", ".join(table.column_names[:12])
            raise ValueError(
                f"dataset table: {source} has no column '{column}' (it has {known})"
                if not count
                else f"dataset table: {source}: has {count} columns named '{column}'"
            )
    x = np.stack([numbers(table, column, source) for column in columns], axis=1)
    given = classes(table, label, source) if label else None
    return Loaded(x, given, columns, tuple(notes))


def read_table(path: str, delimiter: str | None) -> pa.Table:
    """A CSV file with a line of names, or a Parquet file.

    Raises:
        ValueError: it can't be read.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"dataset table: {path}: need a .csv, .tsv or .parquet file")
    try:
        if suffix == ".parquet":
            from pyarrow import parquet

            return parquet.read_table(path)
        from pyarrow import csv

        if delimiter is None:
            delimiter = "\t" if suffix == ".tsv" else ","
            if other := other_separator(path, delimiter):
                raise ValueError(
                    f"its first line has no {'tab' if suffix == '.tsv' else 'comma'}, but "
                    f"{other}; if that is between its columns, set delimiter: {other}"
                )
        # a missing word is missing, and no word of its own
        options = csv.ConvertOptions(strings_can_be_null=True)
        separated = csv.ParseOptions(delimiter=delimiter)
        table = csv.read_csv(path, convert_options=options, parse_options=separated)
        names = table.column_names
    except UnicodeDecodeError as error:
        raise ValueError(f"dataset table: {path}: not a text file in UTF-8") from error
    except Exception as error:  # of a file that is broken pyarrow raises what it meets
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        text = " ".join(str(reason).split()) or type(error).__name__
        raise ValueError(f"dataset table: {path}: {text}") from error
    check_names(names, path)
    return table


def other_separator(path: str, delimiter: str) -> str | None:
    """What seems to separate the columns of a file whose first line lacks the delimiter."""
    with open(path, "rb") as file:
        line = file.readline(HEADER_BYTES).decode("utf-8", "replace")
    if delimiter in line:
        return None
    return next((shown for mark, shown in SEPARATORS.items() if mark in line.strip("\r\n")), None)


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


def is_index(table: pa.Table, column: str) -> bool:
    """Whether a column is one that pandas writes to number the rows, and no measurement."""
    if not INDEX.fullmatch(column) or table.column_names.count(column) != 1:
        return False
    values = table[column]
    return pa.types.is_integer(values.type) and len(values.unique()) == len(values)


def bundled(name: str) -> pa.Table:
    """One of scikit-learn's tables, its target in the column `target`."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = {str(n): bunch.data[:, i] for i, n in enumerate(bunch.feature_names)}
    return pa.table({**columns, "target": bunch.target})


def values_of(table: pa.Table, column: str) -> Any:
    """A column's values in one piece, those of a category as what they stand for."""
    values = table[column]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    return values.combine_chunks()


def numbers(table: pa.Table, column: str, source: str) -> np.ndarray:
    """A column as float64 [N].

    Raises:
        ValueError: it holds something else, or a value is missing.
    """
    values = values_of(table, column)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(
            f"dataset table: {source}: column '{column}' holds {_example(values)}, not numbers; "
            "name the columns to use with columns: [...], or give it as the label"
        )
    if values.null_count:
        row = np.flatnonzero(np.asarray(values.is_null()))[0]
        raise ValueError(missing("number", source, row, column, values.null_count))
    x = as_float64(values.to_numpy(zero_copy_only=False), (0,))
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise ValueError(missing("number", source, bad[0], column, len(bad)))
    return x


def classes(table: pa.Table, label: str, source: str) -> np.ndarray:
    """A column of words or whole numbers as classes, int64 [N], numbered in their order.

    Raises:
        ValueError: it holds something else, a label is missing, or most rows are a class each.
    """
    values, where = values_of(table, label), f"dataset table: {source}"
    if pa.types.is_nested(values.type):
        raise ValueError(f"{where}: label '{label}' holds {values.type}, not classes")
    if pa.types.is_floating(values.type):
        values = compute.if_else(compute.is_nan(values), None, values)
    if values.null_count:
        row = np.flatnonzero(np.asarray(values.is_null()))[0]
        raise ValueError(missing("label", source, row, label, values.null_count))
    given = values.to_numpy(zero_copy_only=False)
    if given.dtype.kind == "f" and len(bad := np.flatnonzero(given != np.rint(given))):
        raise ValueError(
            f"{where}: label '{label}' holds fractions ({given[bad[0]]:g} in row {bad[0] + 1}), "
            "not classes"
        )
    names, numbered = np.unique(given, return_inverse=True)
    if len(given) > 2 and 2 * len(names) > len(given):
        raise ValueError(
            f"{where}: label '{label}' has {len(names)} classes in {len(given)} rows, need "
            "several rows of each"
        )
    return np.asarray(numbered, np.int64)


def missing(what: str, source: str, row: int, column: str, count: int) -> str:
    """What to say of missing values; rows are counted from 1, a CSV's line of names left out."""
    more = f", and {count - 1} more in that column" if count > 1 else ""
    return f"dataset table: {source}: no {what} in row {row + 1}, column '{column}'{more}"


def _example(values: Any) -> str:
    """What a column holds that is no number, and the first such value."""
    if pa.types.is_null(values.type):
        return "nothing"
    texts = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not texts:
        return str(values.type)
    given = enumerate(values.to_pylist(), start=1)
    first = next(((row, text) for row, text in given if text and not is_number(text)), None)
    return "text" if first is None else f"text ({first[1][:40]!r} in row {first[0]})"
