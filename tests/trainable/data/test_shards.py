"""Data larger than memory: it stays in its files, and a training sees every example of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainable.config import TrialConfig
from trainable.data.batches import Batches
from trainable.data.loading import load_data
from trainable.data.parts import Data, FiledPart
from trainable.data.sharded import MIXED, Shard, Sharded, survey
from trainable.data.shelf import Folder, OwnData, Shards
from trainable.train import TrainState, train_until

ROWS, FILES = 40, 7


def write(folder: Path, files: int = FILES, rows: int = ROWS) -> np.ndarray:
    """Files of numbered examples [rows, 1, 4, 4]; all of them together."""
    folder.mkdir(exist_ok=True)
    x = np.arange(files * rows, dtype=np.float32)[:, None, None, None] / (files * rows)
    x = x + np.zeros((1, 1, 4, 4), np.float32)
    for number, part in enumerate(np.split(x, files)):
        np.save(folder / f"{number}.npy", part)
        classes = (part[:, 0, 0, 0] * files * rows).round().astype(np.int64) % 3
        np.save(folder / f"{number}.labels.npy", classes)
    return x


def config(**given: object) -> TrialConfig:
    settings = {
        "dataset": {"type": "digits"},
        "model": {"type": "unet", "channels": 8, "multipliers": [1]},
        "batch_size": 16,
        "steps": 40,
        "optimizer": {"type": "adamw", "lr": 1e-3},
    }
    return TrialConfig.model_validate(settings | given)


def first_values(x: np.ndarray) -> list[float]:
    return sorted(x[:, 0, 0, 0].tolist())


def test_only_held_out_examples_are_read_into_memory(tmp_path: Path) -> None:
    x = write(tmp_path)
    data = load_data(Shards(path=str(tmp_path)))
    assert isinstance(data.train, FiledPart)
    assert data.nbytes == data.validation.x.nbytes + data.test.x.nbytes
    assert data.limit == x.max()
    everything = [first_values(part.x[:]) for part in data.parts]
    assert sorted(value for part in everything for value in part) == first_values(x)
    assert [len(part) for part in everything] == [196, 42, 42]


def test_the_parts_are_the_same_as_of_data_in_memory(tmp_path: Path) -> None:
    write(tmp_path)
    filed = load_data(Shards(path=str(tmp_path)))
    write_module(tmp_path, "whole", "np.concatenate([np.load(f) for f in files])")
    whole = load_data(own(tmp_path, "whole"))
    for one, other in zip(filed.parts, whole.parts, strict=True):
        assert first_values(one.x[:]) == first_values(other.x[:])


def write_module(folder: Path, name: str, loading: str) -> None:
    (folder / f"{name}_data.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n\n"
        "files = sorted(Path(__file__).parent.glob('?.npy'))\n"
        f"def load():\n    return {loading}\n"
    )


def own(folder: Path, name: str) -> OwnData:
    import sys

    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return OwnData(type=f"{name}_data:load")


def test_a_mapped_array_of_own_code_stays_in_its_file(tmp_path: Path) -> None:
    write(tmp_path, files=1, rows=280)
    write_module(tmp_path, "mapped", "np.load(files[0], mmap_mode='r')")
    data = load_data(own(tmp_path, "mapped"))
    assert isinstance(data.train, FiledPart)
    assert len(data.train.x) == 196


def test_what_is_sent_to_a_trial_is_names_of_files(tmp_path: Path) -> None:
    write(tmp_path, rows=4000)
    data = load_data(Shards(path=str(tmp_path)))
    in_files = data.train.x.nbytes
    held_out = data.nbytes
    sent = pickle.dumps(data)
    numbers = 8 * len(data.train.x)
    assert len(sent) < held_out + numbers + 10_000 < in_files
    again: Data = pickle.loads(sent)
    assert np.array_equal(again.train.x[:50], data.train.x[:50])


def test_an_epoch_holds_every_example_once_and_mixes_few_shards_at_a_time(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_data(Shards(path=str(tmp_path)))
    assert isinstance(data.train, FiledPart)
    x = data.train.x
    order = x.order(torch.Generator().manual_seed(3)).numpy()
    assert sorted(order.tolist()) == list(range(len(x)))
    assert not np.array_equal(order, np.arange(len(x)))
    where = x.rows[order] // ROWS
    half = where[: len(where) // FILES * (MIXED - 1)]
    assert len(set(half.tolist())) <= MIXED
    other = x.order(torch.Generator().manual_seed(4)).numpy()
    assert not np.array_equal(order, other)


def test_batches_are_the_same_wherever_they_begin_and_however_they_are_cut(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_data(Shards(path=str(tmp_path), labels=True))
    assert data.classes == 3
    cpu = torch.device("cpu")
    small = Batches(data, 8, 0, cpu)
    large = Batches(data, 16, 0, cpu)
    for place in (0, 16, 160, 192):  # the last runs into the next epoch
        ours = [small.draw(place), small.draw(place + 8)]
        whole = large.draw(place)
        assert torch.equal(torch.cat([batch.x0 for batch in ours]), whole.x0)
        assert whole.labels is not None
        number = (whole.x0[:, 0, 0, 0] * FILES * ROWS).round().long()
        assert torch.equal(whole.labels, number % 3)


def test_conditions_stay_in_their_files_too(tmp_path: Path) -> None:
    x = write(tmp_path)
    for number, part in enumerate(np.split(x, FILES)):
        np.save(tmp_path / f"{number}.labels.npy", part[:, 0, 0, :2] * 10)
    data = load_data(Shards(path=str(tmp_path), labels=True))
    assert isinstance(data.train, FiledPart)
    assert isinstance(data.train.labels, Sharded)
    assert (data.features, data.classes) == (2, 0)
    batch = Batches(data, config().batch_size, 0, torch.device("cpu")).draw(0)
    assert batch.labels is not None
    assert torch.equal(batch.labels, batch.x0[:, 0, 0, :2] * 10)


def test_a_model_trains_and_samples_from_shards(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_data(Shards(path=str(tmp_path)))
    state = TrainState(config(), data)
    train_until(state, 16 * 10)
    assert state.samples == 160
    assert state.diverged_at is None


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda f: np.save(f / "3.npy", np.full((40, 1, 4, 4), np.nan, np.float32)), "row 0"),
        (lambda f: np.save(f / "3.npy", np.zeros((40, 1, 5, 5), np.float32)), "(1, 5, 5)"),
        (lambda f: np.save(f / "3.npy", np.zeros((40, 1, 4, 4), np.int32)), "int32"),
        (lambda f: (f / "3.npy").write_bytes((f / "3.npy").read_bytes()[:500]), "3.npy"),
        (lambda f: np.save(f / "3.labels.npy", np.zeros(4)), "4 rows"),
        (lambda f: (f / "3.labels.npy").unlink(), "3.labels.npy"),
        (lambda f: np.save(f / "3.npy", np.array([{}] * 40), allow_pickle=True), "3.npy"),
    ],
)
def test_a_bad_file_is_told_by_name(harm: object, told: str, tmp_path: Path) -> None:
    write(tmp_path)
    harm(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError) as error:
        load_data(Shards(path=str(tmp_path), labels=True))
    assert told in str(error.value)
    assert "3." in str(error.value)


def test_a_folder_without_shards_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.npy files under"):
        load_data(Shards(path=str(tmp_path)))


def test_equal_examples_stay_together_across_files(tmp_path: Path) -> None:
    x = write(tmp_path)
    np.save(tmp_path / "9.npy", x[:ROWS])  # the first file again
    np.save(tmp_path / "9.labels.npy", np.zeros(ROWS))
    data = load_data(Shards(path=str(tmp_path)))
    parts = [set(first_values(part.x[:])) for part in data.parts]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert any("moved" in note for note in data.notes)


def test_other_data_has_another_fingerprint(tmp_path: Path) -> None:
    x = write(tmp_path)
    before = load_data(Shards(path=str(tmp_path))).fingerprint
    assert load_data(Shards(path=str(tmp_path))).fingerprint == before
    np.save(tmp_path / "0.npy", x[:ROWS] + 1)
    assert load_data(Shards(path=str(tmp_path))).fingerprint != before


def test_images_of_a_folder_go_through_a_cache_on_disk(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02d}.png")
    cache = tmp_path / "cache"
    filed = load_data(Folder(path=str(photos), size=8, cache=str(cache)))
    whole = load_data(Folder(path=str(photos), size=8))
    assert isinstance(filed.train, FiledPart)
    assert filed.shape == whole.shape == (3, 8, 8)
    assert np.array_equal(np.sort(filed.train.x[:], 0), np.sort(np.asarray(whole.train.x), 0))
    (made,) = cache.glob("*.npy")
    stamp = made.stat().st_mtime_ns
    load_data(Folder(path=str(photos), size=8, cache=str(cache)))
    assert made.stat().st_mtime_ns == stamp
    Image.fromarray(pixels[::-1]).save(photos / "00.png")
    load_data(Folder(path=str(photos), size=8, cache=str(cache)))
    assert len(list(cache.glob("*.npy"))) == 2


def test_a_slice_of_a_mapped_file_is_found_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(60, dtype=np.float32).reshape(20, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for array in (mapped, mapped[4:], mapped[4:][2:9]):
        assert np.array_equal(Shard.of(array).open(), array)
    with pytest.raises(ValueError, match="C order"):
        Shard.of(mapped[:, 1:])


def test_a_survey_in_pieces_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    data = load_data(Shards(path=str(tmp_path)))
    assert isinstance(data.train, FiledPart)
    whole = survey(data.train.x, "x")
    monkeypatch.setattr("trainable.data.sharded.PIECE", 200)
    pieces = survey(data.train.x, "x")
    assert np.array_equal(whole.hashes, pieces.hashes)
    assert (whole.limit, whole.digest) == (pieces.limit, pieces.digest)


def test_a_host_without_the_files_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    sent = pickle.dumps(load_data(Shards(path=str(tmp_path))))
    (tmp_path / "0.npy").unlink()
    elsewhere: Data = pickle.loads(sent)
    with pytest.raises(ValueError, match="every host that trains needs it"):
        elsewhere.train.x[:]
