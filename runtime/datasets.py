"""The data sets: what they are, and one reader of their IDX files.

Files lie in torchvision's layout, ``ROOT/MNIST/raw/train-images-idx3-ubyte``, plain or gzipped.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import DataError, MissingDataError

Images = NDArray[np.uint8]  # (N, 28, 28) where nothing else is said
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Size = Literal["base", "compact", "fast", "tiny", "nano"]
SIZES: tuple[Size, ...] = get_args(Size)
Invert = Literal["auto", "yes", "no"]  # of pictures, before they are read; the data sets are light on dark
IMAGE_SIZE = 28
# Every eleventh training image is held out for validation. The stride is odd because MNIST's training file alternates
# between its two groups of writers.
VALIDATION_STRIDE = 11


@dataclass(frozen=True)
class Framing:
    """How the authors of a data set placed what is drawn, and so how that of a picture is placed to be read.

    longest: pixels of the longer side of what is drawn; by_mass: centred by its mass, or else by its outline;
    ground: what is fainter than this share of the strongest stroke is no part of it; alone: it is one character, and
    several are worth a warning.
    """

    longest: int
    by_mass: bool
    ground: float = 0.15
    alone: bool = True


_DIGITS, _CAPITALS = tuple("0123456789"), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MERGED = _DIGITS + _CAPITALS + tuple("abdefghnqrt")
_MNIST, _EMNIST = Framing(20, by_mass=True), Framing(24, by_mass=False)
_WHOLE = Framing(28, by_mass=False, ground=0.03, alone=False)
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class LabelledImages(NamedTuple):
    """Images uint8 (N, 28, 28), upright, 0 is background; labels int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """One data set's facts, and which size of its models is meant.

    `key` names the data set, `model_name` the checkpoints and the bundle.
    """

    key: str
    name: str
    split: str | None
    classes: tuple[str, ...]
    transposed: bool  # its files hold images with rows and columns swapped
    uniform_prior: bool  # p(y) is uniform, rather than the training images' frequencies
    framing: Framing  # of what its images show
    size: Size = "base"

    @property
    def model_name(self) -> str:
        """Of models of this size: MNIST, MNIST-nano."""
        return self.key if self.size == "base" else f"{self.key}-{self.size}"

    def folder(self, root: Path | str) -> Path:
        """Where torchvision keeps this data set below `root`."""
        return Path(root) / self.name

    def paths(self, root: Path | str, official_test: bool) -> tuple[Path, Path]:
        """The image and the label file, without ``.gz``."""
        if self.split is None:
            stem = "t10k" if official_test else "train"
        else:
            stem = f"emnist-{self.split}-{'test' if official_test else 'train'}"
        raw = self.folder(root) / "raw"
        return raw / f"{stem}-images-idx3-ubyte", raw / f"{stem}-labels-idx1-ubyte"


DATASETS = {
    dataset.key: dataset
    for dataset in (
        Dataset("MNIST", "MNIST", None, _DIGITS, False, False, _MNIST),
        Dataset("FashionMNIST", "FashionMNIST", None, _CLOTHES, False, False, _WHOLE),
        Dataset("EMNIST-balanced", "EMNIST", "balanced", _MERGED, True, True, _EMNIST),
        Dataset(
            "EMNIST-byclass",
            "EMNIST",
            "byclass",
            _DIGITS + _CAPITALS + tuple(map(str.lower, _CAPITALS)),
            True,
            False,
            _EMNIST,
        ),
        Dataset("EMNIST-bymerge", "EMNIST", "bymerge", _MERGED, True, False, _EMNIST),
    )
}
NAMES = ("MNIST", "EMNIST", "FashionMNIST")
SPLITS = ("balanced", "byclass", "bymerge")


def find(name: str, split: str | None = "balanced", size: Size = "base") -> Dataset:
    """The data set called `name`, for models of a size; `split` counts for EMNIST only.

    Raises ValueError, which lists what there is.
    """
    for asked, there in ((name, NAMES), (size, SIZES)):
        if asked not in there:
            raise ValueError(f"there is no {asked!r} among {', '.join(there)}")
    for dataset in DATASETS.values():
        if dataset.name == name and dataset.split in (None, split):
            return replace(dataset, size=size)
    raise ValueError(f"there is no {split!r} among {', '.join(SPLITS)}")


def load(dataset: Dataset, root: Path | str, part: Part) -> LabelledImages:
    """Read one part of a data set into memory.

    The training file is divided: every eleventh image is "validation", the rest is "train".
    Raises MissingDataError where a file is not there, DataError where one is damaged, and ValueError for another part.
    """
    if part not in PARTS:
        raise ValueError(f"part is one of {', '.join(PARTS)}, not {part!r}")
    image_path, label_path = (_existing(path) for path in dataset.paths(root, part == "test"))
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise DataError(f"{image_path} holds an array of shape {images.shape}, not N x 28 x 28")
    if not len(images):
        raise DataError(f"{image_path} holds no images")
    if images.max() == 1:
        raise DataError(f"{image_path} holds pixels of 0 and 1 only, not of 0 to 255")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{label_path} holds {labels.shape} labels for the {len(images)} images of {image_path.name}")
    if labels.size and labels.max() >= len(dataset.classes):
        raise DataError(
            f"{label_path} holds label {labels.max()}; {dataset.key} has classes 0 to {len(dataset.classes) - 1}"
        )
    if dataset.transposed:
        images = images.transpose(0, 2, 1)
    if part != "test":
        held_out = np.arange(len(images)) % VALIDATION_STRIDE == 0
        chosen = held_out if part == "validation" else ~held_out
        images, labels = images[chosen], labels[chosen]
    return LabelledImages(np.array(images, order="C"), labels.astype(np.int64))


def read_idx(path: Path | str) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes (yann.lecun.com/exdb/mnist), gzipped where it ends in ``.gz``.

    Raises DataError where the file is cut off, has bytes to spare, or is no such file.
    """
    import gzip  # which drawing does without

    path = Path(path)
    try:
        with path.open("rb") as raw:
            if path.suffix != ".gz":
                return _parse_idx(raw, path)
            with gzip.open(raw) as unzipped:
                return _parse_idx(cast(BinaryIO, unzipped), path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def _parse_idx(file: BinaryIO, path: Path) -> NDArray[np.uint8]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 3:
        raise DataError(f"{path} is not an IDX file of unsigned bytes: it starts with {magic.hex() or 'nothing'}")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError(f"{path} is cut off in its header")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    count = math.prod(shape)
    content = _read_at_most(file, count + 1)
    if len(content) != count:
        found = "more" if len(content) > count else f"only {len(content):,}"
        raise DataError(f"{path} is damaged: its header promises {count:,} bytes of data and there are {found}")
    try:
        return np.frombuffer(content, np.uint8).reshape(shape)
    except ValueError as error:  # of no elements, and yet too large
        raise DataError(f"{path} is damaged: its header promises an array of shape {shape}") from error


def _read_at_most(file: BinaryIO, limit: int) -> bytes:
    """Read up to `limit` bytes, in pieces, so that a header that lies about its size costs no memory."""
    pieces = []
    while limit > 0 and (piece := file.read(min(limit, 1 << 24))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def missing_files(dataset: Dataset, root: Path | str, parts: Sequence[Part]) -> list[Path]:
    """Which of the files that hold these parts of a data set are not below `root`, plain or gzipped."""
    held_by_test = sorted({part == "test" for part in parts})
    wanted = [path for official_test in held_by_test for path in dataset.paths(root, official_test)]
    return [path for path in wanted if not any(candidate.is_file() for candidate in _candidates(path))]


def _candidates(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(path.name + ".gz")


def _existing(path: Path) -> Path:
    for candidate in _candidates(path):
        if candidate.is_file():
            return candidate
    raise MissingDataError(f"found neither {path} nor {path.name}.gz beside it")
