"""Time series from CSV or npz, cut into windows that share no value with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainable.data.examples import as_float64
from trainable.data.loaders.table import load_table
from trainable.data.returned import Loaded


def load_trajectories(
    path: str,
    window: int,
    columns: tuple[str, ...] | None,
    delimiter: str | None,
    key: str | None,
) -> Loaded:
    """Windows as float64 [N, channels, window]; what is left at the end of a series goes.

    Raises:
        ValueError: the file can't be read, has a missing value, or no series is long enough.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        try:
            rows = load_table(path, None, columns, None, delimiter)
        except ValueError as error:
            raise ValueError(str(error).replace("dataset table", "dataset trajectories")) from None
        series = rows.x.T[None]
    elif suffix == ".npz":
        rows, series = Loaded(None), read_npz(path, key)
    else:
        raise ValueError(f"dataset trajectories: {path}: need a .csv, .tsv or .npz file")
    if series.shape[2] < window:
        raise ValueError(
            f"dataset trajectories: {path}: series of {series.shape[2]} times are shorter than "
            f"the window of {window}"
        )
    n, channels, times = series.shape
    cut = series[:, :, : times // window * window].reshape(n, channels, -1, window)
    windows: np.ndarray = cut.swapaxes(1, 2).reshape(-1, channels, window)
    return rows._replace(x=windows)


def read_npz(path: str, key: str | None) -> np.ndarray:
    """An array [series, time] or [series, channels, time] as float64 with three axes.

    Raises:
        ValueError: the file or the array won't do; pickled arrays are refused.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = list(arrays)
            if key is None and len(names) != 1:
                raise ValueError(f"has several arrays, name one with key: ({', '.join(names)})")
            if key is not None and key not in names:
                raise ValueError(f"has no array '{key}' (it has {', '.join(names)})")
            x: np.ndarray = arrays[key or names[0]]
    except Exception as error:  # of a file that is broken: anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        text = " ".join(str(reason).split()) or type(error).__name__
        raise ValueError(f"dataset trajectories: {path}: {text}") from error
    if x.ndim not in (2, 3) or x.dtype.kind not in "fiu":
        raise ValueError(
            f"dataset trajectories: {path}: got an array of {x.dtype} with shape {x.shape}, need "
            "numbers [series, time] or [series, channels, time]"
        )
    x = as_float64(x[:, None] if x.ndim == 2 else x, (0, 2))
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        series, channel, time = bad[0]
        raise ValueError(
            f"dataset trajectories: {path}: no number in series {series}, channel {channel}, "
            f"time {time} (counted from 0)"
        )
    return x
