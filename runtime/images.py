"""Pictures in: image files to model inputs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .datasets import IMAGE_SIZE, Framing, Images, Invert
from .errors import DataError, one_line
from .framing import framed

MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # those that pillow reads by itself
OVERSHOT = 1.5  # up to which floats are of 0 to 1, as interpolation leaves them


class SeveralCharactersWarning(UserWarning):
    """A picture of which one character was to be read seems to show several."""


def read_picture(path: Path | str, invert: Invert = "auto", framing: Framing | None = None) -> Images:
    """Read an image file of any size as uint8 (28, 28), light on dark.

    One of 28x28 pixels is only made grey, and perhaps inverted. Of others, what is drawn is cut out, its contrast
    stretched, and placed as `framing` says; without that they are squared with their border's shade and scaled down.
    "auto" inverts pictures whose border is lighter than mid-grey, as ink on paper is. Raises DataError, which names the
    file, where it is no picture or nothing is drawn in it, and ValueError for another `invert`. Warns with
    SeveralCharactersWarning where it seems to show several characters, with gaps between: they are read as one.
    """
    image, several = examine(path, invert, framing)
    if several:
        warnings.warn(f"{path} seems to show several characters: they are read as one", SeveralCharactersWarning, 2)
    return image


def examine(path: Path | str, invert: Invert = "auto", framing: Framing | None = None) -> tuple[Images, bool]:
    """What read_picture reads, and whether it seems to show several characters, with gaps between."""
    if invert not in get_args(Invert):
        raise ValueError(f"invert is one of {', '.join(get_args(Invert))}, not {invert!r}")
    picture, several = _open(Path(path)), False
    grey = np.asarray(picture, np.uint8)
    border = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    inverted = invert == "yes" or (invert == "auto" and border > 127)
    if framing is not None and picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        found, several = framed(picture, inverted, framing)
        is_empty = not found.any()
    else:
        pixels = np.array(_squared(picture, round(border)), np.uint8)
        found = 255 - pixels if inverted else pixels
        is_empty = bool(np.ptp(found) <= 1)  # as where 0 to 1 was meant to be black to white
    if is_empty:
        raise DataError(f"{path} has nothing drawn in it, or too faintly")
    return found, several


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
    if not os.path.isfile(path):  # noqa: PTH113 - takes names too long for a file
        is_there = os.path.exists(path)  # noqa: PTH110
        raise DataError(f"{path} is no file" if is_there else f"there is no picture {path} that can be read")
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
        raise DataError(f"{path} is no picture that can be read: {one_line(error)}") from error


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
