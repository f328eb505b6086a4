"""What is drawn in a picture, cut out and placed as the images of a data set are: their authors did it once, to all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 28
_LEAST_CONTRAST = 24  # grey levels of 255 by which something drawn differs from its ground
_MOST_GROUND = 0.5  # of the strongest stroke
_INSIDE = 0.998  # of all ink, from the first row to the last and from the first column to the last of what is drawn


@dataclass(frozen=True)
class Framing:
    """longest: pixels of the longer side of what is drawn; by_mass: centred by its mass, or else by its outline.

    ground: what is fainter than this share of the strongest stroke is no part of it.
    """

    longest: int
    by_mass: bool
    ground: float = 0.15


def framed(ink: NDArray[np.float64], texture: float, framing: Framing) -> NDArray[np.uint8]:
    """What is drawn as uint8 (28, 28), black to white.

    ink (H, W): how far a pixel differs from the ground, 0 to 255; texture: how far the ground itself does.
    A picture without contrast gives an empty image.
    """
    most = ink.max()
    if most < _LEAST_CONTRAST:
        return np.zeros((SIZE, SIZE), np.uint8)
    ground = min(max(framing.ground, texture / most), _MOST_GROUND)
    ink = np.clip((ink / most - ground) / (1 - ground), 0, 1)
    rows, columns = _inside(ink.sum(1)), _inside(ink.sum(0))
    drawn = Image.fromarray((255 * ink[rows, columns]).round().astype(np.uint8))
    scale = framing.longest / max(drawn.size)
    width, height = (max(1, round(side * scale)) for side in drawn.size)
    small = np.asarray(drawn.resize((width, height), Image.Resampling.LANCZOS), np.float64)
    small *= 255 / max(small.max(), 1)  # thin strokes have become faint
    image = np.zeros((SIZE, SIZE), np.uint8)
    top, left = (_start(small.sum(axis), framing.by_mass) for axis in (1, 0))
    image[top : top + height, left : left + width] = small.round()
    return image


def _inside(ink: NDArray[np.float64]) -> slice:
    """Where the ink of rows, or of columns, lies, but for the last bit at either end."""
    share = np.cumsum(ink) / ink.sum()
    return slice(int(np.searchsorted(share, 1 - _INSIDE)), int(np.searchsorted(share, _INSIDE)) + 1)


def _start(ink: NDArray[np.float64], by_mass: bool) -> int:
    """The row, or column, of the image at which ink of so many begins."""
    middle = (ink * np.arange(0.5, len(ink))).sum() / ink.sum() if by_mass else len(ink) / 2
    return int(np.clip(round(SIZE / 2 - middle), 0, SIZE - len(ink)))
