"""A folder of images, here or on S3: found, decoded, and brought to one size and mode.

The rule: files are taken in the order of their paths; hidden ones and those that are no images by
their name are left out, and counted. The first frame of each is turned upright as its EXIF says,
if that can be read; transparency is laid on white, and it is converted to the mode. Of 16-bit grey
values the upper byte is taken, so 65535 is white; grey values of 32 bits or floats are refused,
since no file says what is white. The shorter side is then scaled to the size (Lanczos, which
smooths before it samples), and the centre is cut out.

Links are followed as long as they stay inside the folder; one that leads out of it is refused.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainable.base.cpus import count_cpus
from trainable.data.loaders.files import LeftOut, walk
from trainable.data.returned import Loaded
from trainable.data.sharded import Shard, Sharded

# decoders that Pillow may use, and how their files are called; some of the others start programs
# (EPS), take anything for theirs (TGA), or are seldom tested
DECODERS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
}
MAX_PIXELS = 64 << 20  # of one image before scaling; more is a decompression bomb or a map
MEMORY_SHARE = 0.5  # of the machine's memory that the decoded images may take

SHARD_BYTES = 256 << 20  # of decoded images in one file of the cache

Open = Callable[[], Any]  # opens a file to be read as bytes


class File(NamedTuple):
    """An image file: its name in the folder, how to open it, and when and how long it is."""

    name: str
    open: Open
    stamp: tuple[int, int]


def load_folder(path: str, size: int, mode: str, labels: str, cache: str | None) -> Any:
    """The images under `path`, uint8 [N, size, size, C], and their classes if asked for.

    With a `cache` they are decoded into files there, once, and stay in them.

    Raises:
        ValueError: there are none, they don't fit in memory, or one of them can't be used; the
            message names it.
    """
    left_out = LeftOut()
    listed = on_s3 if path.startswith("s3://") else on_disk
    files = list(listed(path, left_out))
    if not files:
        kinds = ", ".join(suffixes())
        said = f"; {left_out.note()}" if left_out.kinds else ""
        raise ValueError(f"dataset folder: no images under {path} ({kinds}){said}")
    classes = classes_of([file.name for file in files], path) if labels == "folders" else None
    x: np.ndarray | Sharded
    if cache is None:
        check_memory(len(files), size, mode)
        x = decode_all(files, size, mode)
    else:
        x = decode_into(Path(cache), path, files, size, mode)
    return Loaded(x, classes, notes=(left_out.note(),) if left_out.kinds else ())


def decode_all(files: list[File], size: int, mode: str) -> np.ndarray:
    """Images in the order of their files, uint8 [N, size, size, C]."""
    with ThreadPoolExecutor(count_cpus()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of files that it reads in spite of a flaw
        # Pillow decodes without Python's lock
        return np.stack(
            list(pool.map(lambda file: decode(file.name, file.open, size, mode), files))
        )


def decode_into(cache: Path, path: str, files: list[File], size: int, mode: str) -> Sharded:
    """The same in .npy files of about a quarter of a gigabyte; those that are there are kept.

    Another image, or one of another name, makes other files.
    """
    channels = 3 if mode == "RGB" else 1
    step = max(1, SHARD_BYTES // (size * size * channels))
    shards = []
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(files), step):
            some = files[start : start + step]
            key = repr((path, [(file.name, file.stamp) for file in some], size, mode))
            target = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
            shape = len(some), size, size, channels
            shards.append(kept(target, shape) or write(target, decode_all(some, size, mode)))
    except OSError as error:
        raise ValueError(f"dataset folder: cache {cache}: {error.strerror or error}") from error
    return Sharded(tuple(shards))


def kept(target: Path, shape: tuple[int, ...]) -> Shard | None:
    """What an earlier search left in the cache, if it is whole."""
    try:
        shard = Shard.of(np.load(target, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, AttributeError):  # not there, or cut off
        return None
    return shard if shard.shape == shape and shard.dtype == np.dtype(np.uint8).str else None


def write(target: Path, images: np.ndarray) -> Shard:
    draft = target.with_name(f".{target.stem}.{os.getpid()}.npy")
    np.save(draft, images)
    draft.replace(target)
    return Shard.of(np.load(target, mmap_mode="r"))


def on_disk(path: str, left_out: LeftOut) -> Iterator[File]:
    """The image files of a local folder: their names in it, and how to open them."""
    root = Path(path)
    for file in walk(root, wanted, left_out, "dataset folder"):
        stat = os.stat(file)
        stamp = stat.st_mtime_ns, stat.st_size
        yield File(str(file.relative_to(root)), partial(open, file, "rb"), stamp)


def on_s3(path: str, left_out: LeftOut) -> Iterator[File]:
    """The image files below an s3:// address; credentials as the AWS tools find them."""
    from pyarrow import fs

    from trainable.data.loaders import remote

    try:
        store, prefix = remote.open_address(path)
        found = store.get_file_info(fs.FileSelector(prefix, recursive=True))
    except (OSError, ValueError) as error:
        raise ValueError(f"dataset folder: can't list {path}: {error}") from error
    infos = [info for info in found if info.type == fs.FileType.File]
    for info in sorted(infos, key=lambda info: info.path):
        name = info.path
        inner = name.removeprefix(prefix).strip("/")
        hidden = any(part.startswith(".") for part in inner.split("/"))
        if wanted(name) and not hidden:
            stamp = info.mtime_ns or 0, info.size
            yield File(inner, partial(store.open_input_file, name), stamp)
        elif not hidden:
            left_out.add(inner)


@cache
def formats() -> tuple[str, ...]:
    """The decoders that this Pillow has."""
    Image.init()
    return tuple(name for name in DECODERS if name in Image.OPEN)


@cache
def suffixes() -> tuple[str, ...]:
    return tuple(suffix for name in formats() for suffix in DECODERS[name])


def wanted(name: str) -> bool:
    """Whether a file is an image, by its name."""
    return name.lower().endswith(suffixes())


def check_memory(count: int, size: int, mode: str) -> None:
    """Raises ValueError where the decoded images would not fit."""
    need = count * size * size * (3 if mode == "RGB" else 1)
    has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > MEMORY_SHARE * has:
        raise ValueError(
            f"dataset folder: {count} images of {size} x {size} take {need / 1e9:.1f} GB, this "
            f"machine has {has / 1e9:.1f} GB of memory; lower size, or name a folder in "
            "dataset.cache to keep them in, on a disk with room"
        )


def classes_of(names: list[str], path: str) -> np.ndarray:
    """The class of each image: the folder right under `path`, numbered by alphabet."""
    folders = [Path(name).parts[0] if len(Path(name).parts) > 1 else "" for name in names]
    if "" in folders:
        stray = names[folders.index("")]
        raise ValueError(
            f"dataset folder: with labels: folders, each image lies in a folder of its class, but "
            f"{stray} lies right under {path}"
        )
    return np.unique(folders, return_inverse=True)[1].astype(np.int64)


def decode(name: str, open_file: Open, size: int, mode: str) -> np.ndarray:
    """One image, uint8 [size, size, C].

    Raises:
        ValueError: it is too large or can't be decoded; the message names it.
    """
    try:
        with open_file() as file, Image.open(file, formats=formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
            if fault := unscaled(image):
                raise ValueError(fault)
            image.draft(mode, (size, size))  # a JPEG is decoded at the scale that is needed
            return fit(convert(upright(image), mode), size)
    except Exception as error:  # a decoder may raise anything at a file that is broken
        raise ValueError(f"dataset folder: {name}: {reason(error)}") from error


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF says, if it says so in a way that can be read."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # tags of another type than they should have: anything
        return image


def reason(error: Exception) -> str:
    """Why an image can't be used, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not readable as an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    known = isinstance(error, OSError | SyntaxError | ValueError | Image.DecompressionBombError)
    return text if known and text else f"can't be decoded ({type(error).__name__}: {text})"


def unscaled(image: Image.Image) -> str | None:
    """Why nobody can know which of an image's values is white, if it is so."""
    if image.mode == "F":
        kind = "floats"
    elif image.mode == "I" and image.format != "PPM":  # Pillow scales a PGM's to 16 bits
        kind = "32-bit values"
    else:
        return None
    return f"holds {kind}, and nothing says which is white; save it with 8 or 16 bits"


def convert(image: Image.Image, mode: str) -> Image.Image:
    """An image of any mode as L or RGB, with transparency laid on white."""
    if image.mode.startswith("I"):  # 16-bit grey: the upper byte
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba)
    return image.convert(mode)


def fit(image: Image.Image, size: int) -> np.ndarray:
    """Scale the shorter side to `size` and cut out the centre: uint8 [size, size, C]."""
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(size, size, -1)
