"""Pictures in and out: image files to model inputs, images to pages and archives."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from .datasets import IMAGE_SIZE
from .errors import DataError

Images = NDArray[np.uint8]
Invert = Literal["auto", "yes", "no"]

MAX_PIXELS = 50_000_000
PIXELS_PER_SCALE = 100  # a cell of scale 1 has 100 pixels a side, an inch of a common screen
GAP = 0.05  # of a cell
TEXT_KEY = "parameters"


def read_picture(path: Path | str, invert: Invert = "auto") -> Images:
    """Read an image file of any size as uint8 (28, 28), light on dark.

    It is made grey, squared with its border's shade and scaled down. "auto" inverts pictures whose border is
    lighter than mid-grey, as ink on paper is. Raises DataError, which names the file.
    """
    picture = _open(Path(path))
    grey = np.asarray(picture, np.uint8)
    border = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    if picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        side = max(picture.size)
        picture = ImageOps.pad(picture, (side, side), color=round(border)).resize(
            (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS
        )
    pixels = np.array(picture, np.uint8)
    if invert == "yes" or (invert == "auto" and border > 127):
        pixels = 255 - pixels
    return pixels


def page(images: Images, height: int, width: int, scale: float) -> Image.Image:
    """A grid of images (N, 28, 28), row by row; a cell has scale * 100 pixels a side."""
    cell = max(1, round(scale * PIXELS_PER_SCALE))
    gap = round(cell * GAP)
    size = (cell - gap, cell - gap)
    sheet = Image.new("L", (width * cell + gap, height * cell + gap), 32)
    for index, pixels in enumerate(images[: height * width]):
        row, column = divmod(index, width)
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        sheet.paste(picture, (gap + column * cell, gap + row * cell))
    return sheet


def save_png(picture: Image.Image, path: Path, parameters: Mapping[str, Any]) -> None:
    """Write a PNG with `parameters` as JSON in its text chunk "parameters"; whole or not at all."""
    text = PngImagePlugin.PngInfo()
    text.add_text(TEXT_KEY, json.dumps(parameters))
    with written_aside(path) as aside:
        picture.save(aside, format="PNG", pnginfo=text)


def save_npz(path: Path, batches: Iterable[Images], labels: NDArray[np.int64]) -> None:
    """Write an archive of `images` uint8 (N, 28, 28) and `labels` int64 (N,), batch by batch; whole or not at all."""
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), IMAGE_SIZE, IMAGE_SIZE)}
            np.lib.format.write_array_header_1_0(file, header)
            for batch in batches:
                file.write(np.ascontiguousarray(batch).tobytes())
        with archive.open("labels.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, labels)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well and goes when it does not."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _open(path: Path) -> Image.Image:
    """A file as a grey picture of 8 bits."""
    if not path.is_file():
        raise DataError(f"there is no picture {path}")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"{path} has {picture.width} x {picture.height} pixels; {MAX_PIXELS:,} are allowed")
            picture.verify()
        with Image.open(path) as picture:
            return _grey(ImageOps.exif_transpose(picture))
    except DataError:
        raise
    except Exception as error:  # decoders of hostile files raise whatever they stumble on
        raise DataError(f"{path} is no picture that can be read: {' '.join(str(error).split())[:200]}") from error


def _grey(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        most = 65535 if picture.mode.startswith("I") else 1.0
        return Image.fromarray(np.clip(values / most * 255, 0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        on_white = Image.new("RGBA", picture.size, "white")
        on_white.alpha_composite(picture.convert("RGBA"))
        picture = on_white
    return picture.convert("L")
