"""Pictures in and out: image files to model inputs, images to pages and archives."""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from .datasets import IMAGE_SIZE
from .errors import DataError
from .files import written_aside
from .framing import Framing, framed

if TYPE_CHECKING:
    import zipfile

Images = NDArray[np.uint8]
Invert = Literal["auto", "yes", "no"]

MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # those that pillow reads by itself
PIXELS_PER_SCALE = 100  # a cell of scale 1 has 100 pixels a side, an inch of a common screen
GAP = 0.05  # of a cell
TEXT_KEY = "parameters"
_LABELS_AT_A_TIME = 1 << 16
OVERSHOT = 1.5  # up to which floats are of 0 to 1, as interpolation leaves them


def read_picture(path: Path | str, invert: Invert = "auto", framing: Framing | None = None) -> Images:
    """Read an image file of any size as uint8 (28, 28), light on dark.

    One of 28x28 pixels is only made grey, and perhaps inverted. Of others, what is drawn is cut out, its contrast
    stretched, and placed as `framing` says; without that they are squared with their border's shade and scaled down.
    "auto" inverts pictures whose border is lighter than mid-grey, as ink on paper is. Raises DataError, which names the
    file, where it is no picture or nothing is drawn in it, and ValueError for another `invert`.
    """
    if invert not in get_args(Invert):
        raise ValueError(f"invert is one of {', '.join(get_args(Invert))}, not {invert!r}")
    picture = _open(Path(path))
    grey = np.asarray(picture, np.uint8)
    border = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    inverted = invert == "yes" or (invert == "auto" and border > 127)
    if framing is not None and picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        found = framed(picture, inverted, framing)
        is_empty = not found.any()
    else:
        pixels = np.array(_squared(picture, round(border)), np.uint8)
        found = 255 - pixels if inverted else pixels
        is_empty = found.min() == found.max()
    if is_empty:
        raise DataError(f"{path} has nothing drawn in it, or too faintly")
    return found


def page(images: Images, height: int, width: int, scale: float) -> Image.Image:
    """A grid of images (N, 28, 28), row by row; a cell has scale * 100 pixels a side."""
    cell = _cell_size(scale)
    gap = round(cell * GAP)
    size = (cell - gap, cell - gap)
    sheet = Image.new("L", (width * cell + gap, height * cell + gap), 32)
    for index, pixels in enumerate(images[: height * width]):
        row, column = divmod(index, width)
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        sheet.paste(picture, (gap + column * cell, gap + row * cell))
    return sheet


def check_page(height: int, width: int, scale: float) -> None:
    """Raise ValueError where a page would have more than MAX_PIXELS."""
    pixels = height * width * _cell_size(scale) ** 2
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"a page of {height} x {width} cells of scale {scale:g} has {pixels:,} pixels; {MAX_PIXELS:,} are allowed"
        )


def _cell_size(scale: float) -> int:
    return max(1, round(scale * PIXELS_PER_SCALE))


def save_png(picture: Image.Image, path: Path, parameters: Mapping[str, Any]) -> None:
    """Write a PNG, of which the path says so, with `parameters` as JSON in a text chunk; whole or not at all."""
    text = PngImagePlugin.PngInfo()
    text.add_text(TEXT_KEY, json.dumps(parameters))
    runs = zlib.Z_RLE  # only repeated pixels are looked for: half the time, and smaller files of pictures like these
    with written_aside(path) as aside:
        picture.save(aside, pnginfo=text, compress_type=runs)  # a format by name makes pillow import five, for 6 ms


def save_npz(path: Path, batches: Iterable[Images], labels: NDArray[np.int64], count: int) -> None:
    """Write an archive of `images` uint8 (count, 28, 28) and `labels` int64 (count,); whole or not at all.

    Images come in batches, labels are repeated as often as needed, and both are written piece by piece.
    """
    import zipfile  # which pages do not need

    with written_aside(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        _write_array(archive, "images", (count, IMAGE_SIZE, IMAGE_SIZE), np.dtype(np.uint8), batches)
        starts = range(0, count, _LABELS_AT_A_TIME)
        pieces = (
            labels[np.arange(start, min(start + _LABELS_AT_A_TIME, count)) % len(labels)].astype(np.int64)
            for start in starts
        )
        _write_array(archive, "labels", (count,), np.dtype(np.int64), pieces)


def _write_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[NDArray[Any]]
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).tobytes())


def _squared(picture: Image.Image, border: int) -> Image.Image:
    """A grey picture scaled to fit 28x28 and centred on its border's shade."""
    longest = max(picture.size)
    if picture.size == (IMAGE_SIZE, IMAGE_SIZE):
        return picture
    width, height = (max(1, round(side * IMAGE_SIZE / longest)) for side in picture.size)
    square = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), border)
    scaled = picture.resize((width, height), Image.Resampling.LANCZOS)
    square.paste(scaled, ((IMAGE_SIZE - width) // 2, (IMAGE_SIZE - height) // 2))
    return square


def _open(path: Path) -> Image.Image:
    """A file as a grey picture of 8 bits."""
    from PIL import ImageOps  # which pages do not need

    if not os.path.isfile(path):  # noqa: PTH113 - takes names too long for a file
        raise DataError(f"{path} is no file" if os.path.exists(path) else f"there is no picture {path}")  # noqa: PTH110
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS or max(picture.size) > MAX_SIDE:
                    raise DataError(
                        f"{path} has {picture.width} x {picture.height} pixels; "
                        f"{MAX_PIXELS:,} in all and {MAX_SIDE:,} a side are allowed"
                    )
                picture.verify()
            with Image.open(path, formats=FORMATS) as picture:
                return _grey(ImageOps.exif_transpose(picture))
    except DataError:
        raise
    except Exception as error:  # decoders of hostile files raise whatever they stumble on
        raise DataError(f"{path} is no picture that can be read: {' '.join(str(error).split())[:200]}") from error


def _grey(picture: Image.Image) -> Image.Image:
    """Grey of 8 bits; what is transparent becomes the opposite of what is drawn."""
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_bytes(np.asarray(picture), deep=picture.mode.startswith("I;16")))
    if picture.has_transparency_data:
        from PIL import ImageChops, ImageStat  # which other pictures do not need

        picture = picture.convert("RGBA")
        opacity = picture.getchannel("A")
        drawn = ImageChops.multiply(picture.convert("L"), opacity)  # divided by 255
        is_light = ImageStat.Stat(drawn).sum[0] > 127 / 255 * ImageStat.Stat(opacity).sum[0]
        background = Image.new("RGBA", picture.size, "black" if is_light else "white")
        background.alpha_composite(picture)
        picture = background
    return picture.convert("L")


def _bytes(values: NDArray[Any], deep: bool) -> Images:
    """Values of 8, 12 or 16 bits (`deep`), or of 0 to 1, 255 or 65535, whichever holds them all, to 0 to 255.

    Whole numbers up to 1 are of 0 to 1 where they are floats, and else of 0 to 255; floats may be a little above 1.
    """
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 65535):
        raise ValueError("its values are not 0 to 65535")
    highest = values.max()
    if deep:
        most = next(each for each in (255, 4095, 65535) if highest <= each)
    elif values.dtype.kind == "f" and highest <= OVERSHOT:
        most = 1
    else:
        most = 255 if highest <= 255 else 65535
    scaled: Images = (np.minimum(values / most, 1) * 255).round().astype(np.uint8)
    return scaled
