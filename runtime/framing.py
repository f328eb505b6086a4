"""What is drawn in a picture, cut out and placed as the images of a data set are: their authors did it once, to all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .datasets import IMAGE_SIZE, Framing

_LEAST_CONTRAST = 24  # grey levels of 255 by which something drawn differs from its ground
_MOST_GROUND = 0.5  # of the strongest stroke
_FAR, _FITS = 6.0, 3  # times the median distance: four standard deviations of noise; fits of the ground's plane
_LARGEST = 560  # pixels a side of what is looked at: a mean over many of a photograph's has less noise
_FEW = 112  # pixels a side of what is drawn, from which on no more are wanted
_LONG = 1.4  # times the shorter side: single characters with a gap between two parts are hardly ever longer
_PART, _BLANK = 1 / 4, 0.01  # of all ink, at least; of a column's most ink, at most
_INSIDE = 0.998  # of all ink, from the first row to the last and from the first column to the last of what is drawn


def framed(picture: Image.Image, dark_on_light: bool, framing: Framing) -> tuple[NDArray[np.uint8], bool]:
    """What is drawn in a grey picture as uint8 (28, 28), black to white; empty where there is no contrast.

    And whether it looks like several characters where there is to be one.
    """
    ink = _ink_of(picture, dark_on_light, framing)
    if ink is None:
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8), False
    ink = ink[_place(ink)]
    drawn = Image.fromarray((255 * ink).round().astype(np.uint8))
    scale = framing.longest / max(drawn.size)
    width, height = (max(1, round(side * scale)) for side in drawn.size)
    small = np.asarray(drawn.resize((width, height), Image.Resampling.LANCZOS), np.float64)
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    if not small.any():  # specks alone are gone at this size
        return image, False
    small *= 255 / small.max()  # thin strokes have become faint
    top, left = (_start(small.sum(axis), framing.by_mass) for axis in (1, 0))
    image[top : top + height, left : left + width] = small.round()
    return image, framing.alone and _are_several(ink)


def _are_several(ink: NDArray[np.float64]) -> bool:
    """Whether what is drawn, (H, W) without its surroundings, looks like several characters with gaps between."""
    height, width = ink.shape
    beside, below = _is_parted(ink.sum(0)), _is_parted(ink.sum(1))
    return (beside and below) or (beside and width > _LONG * height) or (below and height > _LONG * width)


def _is_parted(ink: NDArray[np.float64]) -> bool:
    """Whether a blank column, or row, lies between two parts of what is drawn."""
    share = np.cumsum(ink) / ink.sum()
    return bool(((ink < _BLANK * ink.max()) & (share > _PART) & (share < 1 - _PART)).any())


def _ink_of(picture: Image.Image, dark_on_light: bool, framing: Framing) -> NDArray[np.float64] | None:
    """The ink of a picture that is shrunk or, where what is drawn would have few pixels, of the part with that."""
    small = _shrunk(picture)
    ink = _ink(small, dark_on_light, framing)
    if ink is None or small.size == picture.size:
        return ink
    rows, columns = _place(ink)
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    if side >= _FEW:
        return ink
    box = (columns.start - side, rows.start - side, columns.stop + side, rows.stop + side)
    shrunk = max(picture.size) / max(small.size)
    left, top, right, bottom = (
        np.clip(np.multiply(shrunk, box).round(), 0, np.tile(picture.size, 2)).astype(int).tolist()
    )
    return _ink(_shrunk(picture.crop((left, top, right, bottom))), dark_on_light, framing)


def _shrunk(picture: Image.Image) -> Image.Image:
    """A picture of at most _LARGEST pixels a side."""
    small = picture.copy()
    small.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
    return small


def _ink(picture: Image.Image, dark_on_light: bool, framing: Framing) -> NDArray[np.float64] | None:
    """How much is drawn at each pixel, 0 to 1, (H, W); None where there is no contrast."""
    grey = np.asarray(picture, np.float64)
    paper, texture = _ground(grey)
    ink = np.clip(paper - grey if dark_on_light else grey - paper, 0, None)
    most = ink.max()
    if most < _LEAST_CONTRAST:
        return None
    ground = min(max(framing.ground, texture / most), _MOST_GROUND)
    found: NDArray[np.float64] = np.clip((ink / most - ground) / (1 - ground), 0, 1)
    return found


def _place(ink: NDArray[np.float64]) -> tuple[slice, slice]:
    """The rows and columns in which what is drawn lies."""
    return _inside(ink.sum(1)), _inside(ink.sum(0))


def _ground(grey: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """A plane through the pixels along the border, since light falls unevenly, and how far those lie from it.

    Pixels that lie much farther from it than most do not count: what is drawn may reach the border.
    """
    border = np.ones(grey.shape, bool)
    border[1:-1, 1:-1] = False
    places = np.stack([np.ones(grey.shape), *np.mgrid[: grey.shape[0], : grey.shape[1]]], axis=-1)
    along, values = places[border], grey[border]
    plane = np.array([np.median(values), 0, 0])
    for _ in range(_FITS):
        away = np.abs(values - along @ plane)
        near = away <= max(_FAR * np.median(away), 1)
        plane = np.linalg.lstsq(along[near], values[near], rcond=None)[0]
    return places @ plane, _FAR * float(np.median(np.abs(values - along @ plane)))


def _inside(ink: NDArray[np.float64]) -> slice:
    """Where the ink of rows, or of columns, lies, but for the last bit at either end."""
    share = np.cumsum(ink) / ink.sum()
    return slice(int(np.searchsorted(share, 1 - _INSIDE)), int(np.searchsorted(share, _INSIDE)) + 1)


def _start(ink: NDArray[np.float64], by_mass: bool) -> int:
    """The row, or column, of the image at which ink of so many begins."""
    middle = (ink * np.arange(0.5, len(ink))).sum() / ink.sum() if by_mass else len(ink) / 2
    return int(np.clip(round(IMAGE_SIZE / 2 - middle), 0, IMAGE_SIZE - len(ink)))
