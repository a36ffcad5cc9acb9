"""Data as people have it: what is understood, what is said of it, and what is refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, TiffImagePlugin
from torch.utils.data import TensorDataset

from trainable.config import TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.uniform(-1, 1, (200, 2)).astype(np.float32)


def load(**dataset: Any) -> Data:
    return load_data(TrialSettings.model_validate({"dataset": dataset}).dataset)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Data]:
    """Loads what a function of the user's would return."""

    def loaded(returned: Any, **keys: Any) -> Data:
        monkeypatch.setattr("trainable.base.shelf.load", lambda target: lambda: returned)
        return load(type="mine.data:load", **keys)

    return loaded


def everything(data: Data) -> np.ndarray:
    return np.concatenate([part.x[:] for part in data.parts])


def table(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# what a function may return


TAKEN: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "a tensor with grad": (torch.tensor(ROWS, requires_grad=True), (2,), 0),
    "bfloat16": (torch.tensor(ROWS).bfloat16(), (2,), 0),
    "float16": (ROWS.astype(np.float16), (2,), 0),
    "a frame": (pd.DataFrame(ROWS, columns=["a", "b"]), (2,), 0),
    "a list of arrays": ([*ROWS], (2,), 0),
    "a list of tensors": ([*torch.tensor(ROWS, requires_grad=True)], (2,), 0),
    "a list of tuples of numbers": (list(map(tuple, ROWS.tolist())), (2,), 0),
    "a list of two": ([ROWS, np.arange(200) % 3], (2,), 3),
    "a pair of tensors": ((torch.tensor(ROWS), torch.arange(200) % 3), (2,), 3),
    "labels that are true or false": ((ROWS, np.arange(200) % 2 == 0), (2,), 2),
    "labels in a list": ((ROWS, [0, 1] * 100), (2,), 2),
    "a mask that hides nothing": (np.ma.MaskedArray(ROWS), (2,), 0),
    "big-endian floats": (ROWS.astype(">f8"), (2,), 0),
    "a view that is turned": (ROWS.T.copy().T, (2,), 0),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_holds_examples_is_taken(case: str, own: Callable[..., Data]) -> None:
    returned, shape, classes = TAKEN[case]
    data = own(returned)
    assert (data.shape, data.classes) == (shape, classes)
    assert np.allclose(np.sort(everything(data)[:, 0]), np.sort(ROWS[:, 0]), atol=0.01)


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, r"returned None \(does it lack a return\?\); want examples"),
    "a mapping": ({"x": ROWS, "y": 1}, "returned a dict with the keys 'x', 'y'; want"),
    "three values": ((ROWS, ROWS, ROWS), "returned a tuple of 3 .an array of float32 with"),
    "one value in a tuple": ((ROWS,), "returned a tuple of 1"),
    "examples that are nothing": ((None, np.arange(200)), "returned a tuple of 2 .None"),
    "a dataset of torch": (
        TensorDataset(torch.tensor(ROWS), torch.arange(200)),
        r"returned a TensorDataset \(stack its examples into one array\); want",
    ),
    "a list of pairs": ([(row, 1) for row in ROWS], "returned a list of 200 .*, a list of pairs"),
    "a list of mappings": ([{"x": 1.0}] * 20, "a list of mappings"),
    "a generator": ((row for row in ROWS), "returned a generator; want"),
    "a function": (lambda: ROWS, "returned a function; want"),
    "a path": ("data.npy", "returned 'data.npy'; want"),
    "a number": (3.5, "returned 3.5; want"),
    "a class": (TensorDataset, "returned the class TensorDataset, not an object of it"),
    "rows of different lengths": ([[1.0], [1.0, 2.0]] * 9, "which is no array: ValueError"),
    "words": (np.array(["a"] * 20), "got an array of <U1 with shape"),
    "objects": (np.array([object()] * 20), "got an array of object with shape"),
    "complex numbers": (ROWS.astype(complex), "got an array of complex128"),
    "whole numbers": (np.zeros((20, 2), int), r"scale whole numbers to about \[-1, 1\]"),
    "grey images without an axis": (np.zeros((20, 8, 8), np.uint8), r"x\[..., None\]"),
    "an array without axes": (np.float32(1), "got an array of float32 with shape ()"),
    "examples of nothing": (np.zeros((20, 0), np.float32), r"of shape \(0,\) hold nothing"),
    "masked values": (
        np.ma.MaskedArray(ROWS, ROWS > 0),
        "returned a MaskedArray .*, of which values are masked",
    ),
    "too large for float32": (np.full((20, 2), 1e300), "20 examples of 20 with NaN or infinity"),
    "a sparse tensor of another kind": (
        torch.tensor(ROWS).to_sparse(),
        "which is no array: TypeError",
    ),
    "conditions too large": ((ROWS, np.full((200, 2), 1e300)), "conditions of 200 examples of"),
    "fewer labels": ((ROWS, np.arange(199)), r"got labels of int64 with shape \(199,\)"),
    "words as labels": ((ROWS, ["a"] * 200), "got labels of <U1"),
    "labels that are no array": ((ROWS, {"y": 1}), "returned a tuple of 2"),
    "huge class numbers": (
        (ROWS, np.array([0, 3_000_000] * 100)),
        "labels go up to 3000000, which makes 3000001 classes, of which 2 occur; number those",
    ),
    "class numbers beyond int64": (
        (ROWS, np.array([0, 2**63 + 1] * 100, np.uint64)),
        "classes, of which 2 occur",
    ),
    "years as classes": ((ROWS, np.array([1999, 2004] * 100)), "makes 2005 classes, of which 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_none_is_refused_by_name(case: str, own: Callable[..., Data]) -> None:
    returned, fault = REFUSED[case]
    with pytest.raises(ValueError, match=fault) as raised:
        own(returned)
    assert str(raised.value).startswith("dataset mine.data:load: ")
    assert "\n" not in str(raised.value)


def test_class_numbers_with_gaps_are_told(own: Callable[..., Data]) -> None:
    data = own((ROWS, np.arange(200) % 5 * 10))
    assert data.classes == 41
    assert "41 classes, of which 5 occur" in data.notes[0]


def test_whole_floats_as_labels_are_conditions_and_that_is_told(own: Callable[..., Data]) -> None:
    data = own((ROWS, (np.arange(200) % 2).astype(np.float32)))
    assert data.classes == 0 and data.features == 1
    assert "as whole numbers they are classes" in data.notes[0]
    assert own((ROWS, ROWS[:, 0])).notes == ()


# where channels are


@pytest.mark.parametrize(
    ("shape", "layout", "understood", "noted"),
    [
        ((16, 16, 3), None, (3, 16, 16), False),
        ((12, 16, 1), None, (1, 12, 16), False),
        ((3, 16, 16), None, (3, 16, 16), True),
        ((1, 12, 16), None, (1, 12, 16), True),
        ((4, 4, 3), None, (3, 4, 4), False),
        ((16, 16, 8), None, (8, 16, 16), False),
        ((16, 16, 16), "channels_first", (16, 16, 16), False),
        ((3, 16, 16), "channels_last", (16, 3, 16), False),
        ((3, 16, 16), "channels_first", (3, 16, 16), False),
    ],
)
@pytest.mark.parametrize("filed", [False, True])
def test_where_the_channels_of_bytes_are(
    shape: tuple[int, ...],
    layout: str | None,
    understood: tuple[int, ...],
    noted: bool,
    filed: bool,
    tmp_path: Path,
    own: Callable[..., Data],
) -> None:
    images = RANDOM.integers(0, 256, (40, *shape), np.uint8)
    if filed:
        np.save(tmp_path / "a.npy", images)
        data = load(type="shards", path=str(tmp_path), layout=layout)
    else:
        data = own(images, layout=layout)
    assert data.shape == understood
    assert bool(data.notes) == noted
    want = images if understood == shape else np.moveaxis(images, -1, 1)
    found = {image.tobytes() for image in everything(data)}
    assert found == {np.ascontiguousarray(image).tobytes() for image in want}
    if noted:
        assert f"images of shape {shape} are taken as {shape[0]} channel" in data.notes[0]


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        (np.uint8, (16, 16, 16), "either 16 channels of 16 x 16, or 16 channels of 16 x 16"),
        (np.uint8, (3, 3, 3), "set layout: channels_first or channels_last"),
        (np.uint8, (3, 16, 3), "set layout"),
        (np.float32, (16, 16, 3), "either 16 channels of 16 x 3, or 3 channels of 16 x 16"),
        (np.float64, (32, 48, 1), "or 1 channel of 32 x 48"),
    ],
)
@pytest.mark.parametrize("filed", [False, True])
def test_images_whose_channels_could_be_either_are_asked_about(
    kind: Any,
    shape: tuple[int, ...],
    said: str,
    filed: bool,
    tmp_path: Path,
    own: Callable[..., Data],
) -> None:
    images = RANDOM.integers(0, 2, (40, *shape)).astype(kind)
    np.save(tmp_path / "a.npy", images)

    def loaded(layout: str | None) -> Data:
        if filed:
            return load(type="shards", path=str(tmp_path), layout=layout)
        return own(images, layout=layout)

    with pytest.raises(ValueError, match=said):
        loaded(None)
    assert loaded("channels_first").shape == shape
    assert loaded("channels_last").shape == (shape[2], *shape[:2])


def test_a_layout_of_what_is_no_image_is_refused(own: Callable[..., Data]) -> None:
    with pytest.raises(ValueError, match=r"layout is for images of three axes, got shape \(2,\)"):
        own(ROWS, layout="channels_last")


# large numbers


@pytest.mark.parametrize(
    ("start", "step", "kept"),
    [
        (1_764_320_000, 60, 100),  # unix seconds
        (1_764_320_000_000, 1, 100),  # milliseconds
        (1_764_320_000_000_000_000, 1, 100),  # nanoseconds, which float64 rounds to 256
        (0, 1, 100),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "trajectories", "npz"])
def test_times_stay_as_many_as_they_were(
    start: int, step: int, kept: int, kind: str, tmp_path: Path
) -> None:
    times = start + step * np.arange(100)
    frame = pd.DataFrame({"time": times, "y": RANDOM.normal(size=100)})
    if kind == "parquet":
        frame.to_parquet(tmp_path / "t.parquet")
        data = load(type="table", path=str(tmp_path / "t.parquet"))
    elif kind == "npz":
        np.savez(tmp_path / "t.npz", times.reshape(10, 10))
        data = load(type="trajectories", path=str(tmp_path / "t.npz"), window=10)
    else:
        frame.to_csv(tmp_path / "t.csv", index=False)
        knobs = {"window": 2} if kind == "trajectories" else {}
        type_ = "trajectories" if knobs else "table"
        data = load(type=type_, path=str(tmp_path / "t.csv"), **knobs)
    assert len(np.unique(everything(data)[:, 0])) == kept and data.notes == ()


def test_values_that_float32_merges_are_told_by_name(
    tmp_path: Path, own: Callable[..., Data]
) -> None:
    values = [1e12, *range(99)]
    text = "a,b\n" + "".join(f"{i * i % 89 + i},{v}\n" for i, v in enumerate(values))
    notes = load(type="table", path=table(tmp_path / "t.csv", text)).notes
    assert notes[0].startswith("column 'b': 100 distinct values become ")
    seconds = 1_764_320_000.0 + np.arange(200)
    notes = own(np.stack([seconds, RANDOM.normal(size=200)], 1)).notes
    assert notes[0].startswith("column or channel 0 (counted from 0): 200 distinct values become")
    with pytest.raises(ValueError, match="only 3 of 200 examples are distinct; column or channel"):
        own(seconds[:, None])


@pytest.mark.parametrize("value", ["0.1", "1764320000", "1e300"])
def test_a_column_that_does_not_vary_is_named(value: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "a,b\n" + "".join(f"{i},{value}\n" for i in range(100)))
    with pytest.raises(ValueError, match=r"column 'b' holds [\de.+]+ throughout the training"):
        load(type="table", path=path)


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_numbers_at_the_ends_of_float64_are_standardised(factor: float, tmp_path: Path) -> None:
    text = "a\n" + "".join(f"{i * factor!r}\n" for i in range(1, 101))
    x = load(type="table", path=table(tmp_path / "t.csv", text)).train.x[:]
    assert np.isfinite(x).all() and abs(float(x.std()) - 1) < 1e-3


# tables


def rows(line: Callable[[int], str], head: str = "a,b,kind", count: int = 40) -> str:
    return head + "\n" + "".join(line(i) + "\n" for i in range(count))


def test_labels_of_whole_floats_are_classes(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", rows(lambda i: f"{i},{i * i},{i % 2}.0"))
    assert load(type="table", path=path, label="kind").classes == 2
    path = table(tmp_path / "t.csv", rows(lambda i: f"{i},{i * i},{i % 3 / 2}"))
    with pytest.raises(ValueError, match=r"'kind' holds fractions \(0.5 in row 2\), not classes"):
        load(type="table", path=path, label="kind")
    path = table(tmp_path / "t.csv", rows(lambda i: f"{i},{i * i},{i}"))
    with pytest.raises(ValueError, match="'kind' has 40 classes in 40 rows"):
        load(type="table", path=path, label="kind")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.parametrize("kind", ["table", "trajectories"])
def test_another_delimiter_is_told_and_can_be_set(mark: str, kind: str, tmp_path: Path) -> None:
    line = rows(lambda i: f"{i},{i * i}", "a,b").replace(",", mark)
    path = table(tmp_path / "t.csv", line)
    knobs = {"window": 2} if kind == "trajectories" else {}
    with pytest.raises(ValueError, match=r"has no comma, but .* set delimiter: "):
        load(type=kind, path=path, **knobs)
    assert load(type=kind, path=path, delimiter=mark, **knobs).shape[0] == 2
    if mark == "\t":
        tabs = table(tmp_path / "t.tsv", line)
        assert load(type=kind, path=tabs, **knobs).shape[0] == 2


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index"])
@pytest.mark.parametrize("kind", ["table", "trajectories"])
def test_an_index_of_pandas_is_left_out_and_told(name: str, kind: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", rows(lambda i: f"{i},{i * i},{-i}", f"{name},a,b"))
    knobs = {"window": 2} if kind == "trajectories" else {}
    data = load(type=kind, path=path, **knobs)
    assert data.shape[0] == 2
    assert data.notes == (
        f"column '{name}' numbers the rows and is left out; to train on it, name it in "
        "columns: [...]",
    )
    assert load(type=kind, path=path, columns=[name, "a"], **knobs).shape[0] == 2


def test_an_index_in_parquet_is_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": RANDOM.normal(size=40)}).sample(frac=1, random_state=0)
    frame.to_parquet(tmp_path / "t.parquet")
    data = load(type="table", path=str(tmp_path / "t.parquet"))
    assert data.shape == (1,) and "__index_level_0__" in data.notes[0]


def test_categories_and_decimals_are_what_they_stand_for(tmp_path: Path) -> None:
    import decimal

    frame = pd.DataFrame(
        {
            "a": [decimal.Decimal(i) / 4 for i in range(40)],
            "kind": pd.Categorical(["x", "y"] * 20),
            "b": pd.Series(np.arange(40) ** 2).astype("Int64"),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    data = load(type="table", path=str(tmp_path / "t.parquet"), label="kind")
    assert data.shape == (2,) and data.classes == 2


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (rows(lambda i: f"{i},1,5", "a;b,c").replace(",", ";"), "no comma, but ';'"),
        (rows(lambda i: f'{i},"1,5",x'), r"'b' holds text \('1,5' in row 1\), not numbers"),
        (rows(lambda i: f"{i},{'?' if i == 7 else i},x"), r"'b' holds text \('\?' in row 8\)"),
        (rows(lambda i: f"{i},{i},x", "a,a,kind"), "has 2 columns named 'a'"),
        (rows(lambda i: f"{i},,x"), "'b' holds nothing, not numbers"),
        (rows(lambda i: f"{i},2024-01-{i % 28 + 1:02},x"), "'b' holds date32"),
        ("", "Empty CSV file"),
        ("kind\n", "has no column to train on"),
        ("a,b,kind\n", "."),
        ("a,b,kind\n1,2,x\n", "."),
    ],
)
def test_faults_of_a_table_are_one_line(content: str, fault: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", content)
    with pytest.raises(ValueError, match=fault) as raised:
        load(type="table", path=path, label="kind")
    assert str(raised.value).startswith("dataset table") and "\n" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_in_another_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(rows(lambda i: f"{i},{i},é", "ä,b,k").encode(encoding))
    with pytest.raises(ValueError, match=r"t\.csv") as raised:
        load(type="table", path=str(tmp_path / "t.csv"))
    assert "\n" not in str(raised.value)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + rows(lambda i: f"{i},{i * i},x").encode())
    assert load(type="table", path=str(tmp_path / "t.csv"), columns=["a"]).shape == (1,)


# folders of images


def write_images(folder: Path, count: int = 12, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RANDOM.integers(0, 255, (9, 7, 3), np.uint8)
        image, kind = Image.fromarray(pixels), {".jfif": "JPEG", ".jpe": "JPEG", ".mpo": "MPO"}
        image.save(folder / f"{number:03}{suffix}", kind.get(suffix))
    return folder


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".avif", ".JPG", ".mpo", ".dib", ".jp2"])
def test_images_of_every_usual_kind_are_read(suffix: str, tmp_path: Path) -> None:
    from PIL import features

    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    folder = write_images(write_images(tmp_path / "images"), 20, suffix)
    data = load(type="folder", path=str(folder))
    assert len(everything(data)) == 32 and data.notes == ()


def test_files_that_are_left_out_are_counted_and_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    for name in ("a.heic", "b.heic", "sub/c.heic", "notes.txt", "noname", ".h.png", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("?")
    assert load(type="folder", path=str(folder)).notes == (
        "6 files were left out: 3 .heic, 1 hidden, 1 without a suffix, 1 .txt; the first is "
        ".h.png",
    )
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"no images under .*; 5 files were left out: 3 .heic"):
        load(type="folder", path=str(folder))


def make_broken(folder: Path, kind: str) -> None:
    path = folder / "bad.png"
    if kind == "nothing":
        path.symlink_to(folder / "gone.png")
    elif kind == "itself":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "npy":
        (folder / "bad.npy").symlink_to(folder / "gone.npy")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("nothing", "is a link to nothing"), ("itself", "is a link to nothing"), ("pipe", "regular")],
)
def test_what_is_no_file_is_named(kind: str, said: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    make_broken(folder, kind)
    with pytest.raises(ValueError, match=rf"^dataset folder: .*bad.png.* {said}"):
        load(type="folder", path=str(folder))


def test_a_shard_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "notes.txt").write_text("?")
    assert load(type="shards", path=str(tmp_path)).notes[0].startswith("1 file was left out")
    make_broken(tmp_path, "npy")
    with pytest.raises(ValueError, match=r"^dataset shards: .*bad.npy is a link to nothing"):
        load(type="shards", path=str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "sub").mkdir(mode=0)
    with pytest.raises(ValueError, match="sub: Permission denied"):
        load(type="folder", path=str(folder))


def exif(kind: str) -> bytes | Image.Exif:
    """EXIF that says how an image is turned, in a way that it should not."""
    found = Image.Exif()
    found[0x0112] = 6
    if kind == "text":
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info.tagtype[0x0112] = 2
        info[0x0112] = "six"
        return b"Exif\0\0" + info.tobytes()
    if kind == "offset":  # a directory beyond the end
        return b"Exif\0\0MM\0*" + struct.pack(">I", 1 << 30)
    if kind == "type":  # a fraction where a whole number should be
        tag = struct.pack(">HHII", 0x0112, 5, 1, 26) + struct.pack(">I", 0)
        return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + tag + struct.pack(">II", 6, 0)
    return found


@pytest.mark.parametrize("kind", ["text", "offset", "type", "well"])
def test_a_photo_whose_exif_is_odd_is_taken(kind: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    Image.new("RGB", (9, 20), "red").save(folder / "turned.jpg", exif=exif(kind))
    assert len(everything(load(type="folder", path=str(folder)))) == 13


@pytest.mark.parametrize("error", [TypeError, struct.error, AttributeError, IndexError, KeyError])
def test_whatever_a_decoder_raises_is_one_line_with_the_file(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images")

    def fails(*_: object, **__: object) -> None:
        raise error("odd\nbytes")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", fails)
    assert len(everything(load(type="folder", path=str(folder)))) == 12
    monkeypatch.setattr("PIL.ImageOps.fit", fails)
    with pytest.raises(
        ValueError, match=r"^dataset folder: 0\d\d.png: can't be decoded"
    ) as raised:
        load(type="folder", path=str(folder))
    assert "\n" not in str(raised.value)


def test_a_cache_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    folder, cache = write_images(tmp_path / "images"), tmp_path / "cache"
    first = everything(load(type="folder", path=str(folder), cache=str(cache)))
    (kept,) = cache.glob("*.npy")
    for content in (b"", kept.read_bytes()[:100], kept.read_bytes()[:-9], b"no array"):
        kept.unlink()  # it is mapped
        kept.write_bytes(content)
        again = everything(load(type="folder", path=str(folder), cache=str(cache)))
        assert np.array_equal(first, again)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"dataset folder: cache .*/file"):
        load(type="folder", path=str(folder), cache=str(tmp_path / "file"))
