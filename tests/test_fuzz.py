"""Wild input of every kind: it is used, or told in one line; never a traceback.

In `make test` each of these tries a little. `make fuzz` tries for FUZZ_SECONDS, and prints what.
"""

from __future__ import annotations

import collections
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel
from support.books import Writer

from search.errors import DiffsweepError
from search.history.log import read_book
from search.spec.loading import validate
from search.spec.spec import SearchSpec
from trainable.base.reading import parse, read
from trainable.config import TrialSettings
from trainable.config_file import read_config
from trainable.data.loading import load_data

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))  # of each kind; 0: a few examples
EXAMPLES = 25 if not SECONDS else 200
TRIED: collections.Counter[str] = collections.Counter()  # what was tried, and how it ended
LITTLE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=not SECONDS,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def what_was_tried() -> Any:
    yield
    for what, count in sorted(TRIED.items()):
        print(f"{count:8} {what}")


def again_and_again(test: Callable[[], None]) -> None:
    """Once, or until the time that was given is spent."""
    deadline = time.monotonic() + SECONDS
    test()
    while time.monotonic() < deadline:
        test()


def ends_well(what: str, trying: Callable[[], object], *refusals: type[Exception]) -> bool:
    """Whether wild input was taken. It fails where it is neither that, nor told in a line."""
    try:
        trying()
    except refusals as error:
        faults = error.faults if isinstance(error, DiffsweepError) else (str(error),)
        assert faults and all(fault and "\n" not in fault for fault in faults), faults
        TRIED[f"{what}: refused"] += 1
        return False
    TRIED[f"{what}: taken"] += 1
    return True


# specs

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00$"), max_size=8)
NUMBERS = st.one_of(st.integers(-3, 70), st.integers(), st.floats(), st.floats(0, 1))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
RANGES = st.dictionaries(
    st.sampled_from(["low", "high", "log", "step", "log_from_one", "steps", "type", "value"]),
    SCALARS,
    max_size=4,
)
VALUES = st.recursive(
    st.one_of(SCALARS, RANGES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=2)
    ),
    max_leaves=4,
)


def keys_of(model: type[BaseModel], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the schema that is no list's or mapping's own."""
    found = []
    for name, field in model.model_fields.items():
        found.append((*before, name))
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += keys_of(kind, (*before, name))
    return found


KEYS = [
    *keys_of(SearchSpec),
    *[("space", "optimizer", name, "lr") for name in ("adam", "sgd", "muon", "a:b", "nonsense")],
    *[("space", "optimizer", "adamw", knob) for knob in ("beta1", "weight_decay", "eps", "type")],
    *[("trial", part, "type") for part in ("dataset", "model")],
    *[("trial", "diffusion", "prediction"), ("trial", "dataset", "path")],
    *[("space", "warmup", "steps"), ("objective", "metric"), ("confirm", "seeds")],
]


def put(spec: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        inner = spec.get(key)
        if not isinstance(inner, dict):
            inner = spec[key] = {}
        spec = inner
    spec[path[-1]] = value


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=4))
@LITTLE
def any_spec(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    spec: dict[str, Any] = {"name": "wild"}
    for path, value in changes:
        put(spec, path, value)
    text = json.dumps(spec)
    if ends_well("spec", lambda: validate(parse(text, "spec.yaml")), DiffsweepError):
        accepted = validate(parse(text, "spec.yaml"))
        for name in accepted.optimizers:  # what is accepted can be begun
            from search.execution.ready import first_config

            first_config(accepted, name)


@given(st.sampled_from(KEYS), VALUES, TEXTS)
@LITTLE
def any_set(path: tuple[str, ...], value: Any, text: str) -> None:
    for assignment in (f"{'.'.join(path)}={json.dumps(value)}", f"{'.'.join(path)}={text}", text):
        document = parse("name: wild", "spec.yaml")
        ends_well("--set", lambda d=document, a=assignment: validate(d, [a]), DiffsweepError)  # type: ignore[misc]


# files, with bytes flipped and cut


def written(save: Callable[[Any], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)
FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
SERIES = np.random.default_rng(0).normal(size=(3, 40))
IMAGES = {
    f"x.{suffix}": written(lambda s, k=kind: Image.fromarray(PIXELS).save(s, k))  # type: ignore[misc]
    for suffix, kind in (
        *(("png", "PNG"), ("jpg", "JPEG"), ("bmp", "BMP"), ("gif", "GIF"), ("webp", "WEBP")),
        *(("tif", "TIFF"), ("ppm", "PPM")),
    )
}
LOADED: dict[str, tuple[dict[str, Any], bytes]] = {
    **{name: ({"type": "folder", "size": 8}, content) for name, content in IMAGES.items()},
    "x.csv": ({"type": "table"}, FRAME.to_csv(index=False).encode()),
    "x.parquet": ({"type": "table"}, written(FRAME.to_parquet)),
    "t.csv": ({"type": "trajectories", "window": 3}, FRAME.to_csv(index=False).encode()),
    "x.npz": ({"type": "trajectories", "window": 4}, written(lambda s: np.savez(s, SERIES))),
    "x.npy": ({"type": "shards"}, written(lambda s: np.save(s, SERIES.T.astype(np.float32)))),
}
HURT = st.tuples(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)


def hurt(content: bytes, how: tuple[list[tuple[float, int]], float]) -> bytes:
    """Content with some bytes changed, cut after a share of it."""
    found = bytearray(content)
    for place, byte in how[0]:
        found[int(place * len(found))] = byte
    return bytes(found[: int(how[1] * len(found))])


def any_file_of(name: str) -> Callable[[], None]:
    knobs, content = LOADED[name]

    @given(HURT)
    @LITTLE
    def any_file(how: tuple[list[tuple[float, int]], float]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(hurt(content, how))
            for number in range(10 if name in IMAGES else 0):
                fine = np.roll(PIXELS, number, 0) + np.uint8(number)
                Image.fromarray(fine).save(Path(folder) / f"{number}.png")
            whole = knobs["type"] in ("folder", "shards")
            dataset = knobs | {"path": folder if whole else str(path)}
            config = TrialSettings.model_validate({"dataset": dataset}).dataset
            ends_well(f"{knobs['type']} {path.suffix}", lambda: load_data(config), ValueError)

    return any_file


@pytest.mark.parametrize("name", LOADED)
def test_a_data_file_that_was_hurt_is_used_or_refused(name: str) -> None:
    again_and_again(any_file_of(name))


def test_a_spec_of_wild_values_is_taken_or_refused() -> None:
    again_and_again(any_spec)


def test_a_wild_set_is_taken_or_refused() -> None:
    again_and_again(any_set)


SPEC = b"name: x\ntrial:\n  steps: 100  # a comment\nspace: {optimizer: {adam: {lr: [1.0e-3]}}}\n"
CONFIG = b"optimizer: {type: adam, lr: 0.001}\nsteps: 20\nbatch_size: 8\nema: ['0.99']\n"


@pytest.mark.parametrize(
    ("content", "reader"), [(SPEC, "spec"), (CONFIG, "config")], ids=["spec", "config"]
)
def test_a_text_that_was_hurt_is_read_or_refused(content: bytes, reader: str) -> None:
    @given(HURT)
    @LITTLE
    def any_text(how: tuple[list[tuple[float, int]], float]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.yaml"
            path.write_bytes(hurt(content, how))
            trying = (
                (lambda: validate(read(path))) if reader == "spec" else (lambda: read_config(path))
            )
            ends_well(f"{reader} file", trying, DiffsweepError)

    again_and_again(any_text)


def test_a_history_that_was_hurt_is_read_or_refused() -> None:
    writer = Writer()
    writer.search({"adam": 0.2, "sgd": 0.3})
    writer.finish()
    content = "".join(json.dumps(event) + "\n" for event in writer.events).encode()

    @given(HURT)
    @LITTLE
    def any_history(how: tuple[list[tuple[float, int]], float]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.jsonl"
            path.write_bytes(hurt(content, how))
            ends_well("history", lambda: read_book(path), DiffsweepError)

    again_and_again(any_history)
