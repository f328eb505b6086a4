"""Pictures of what is measured: the confusion matrix, and samples beside the training images nearest to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evaluation.figures import nearest_rows
from runtime import pages
from runtime.datasets import Images

CELL, MARGIN, FONT = 26, 90, 12
HEIGHT, WIDTH, SCALE = 8, 5, 0.8


def draw_confusion(counts: NDArray[np.int64], names: tuple[str, ...]) -> NDArray[np.uint8]:
    """A matrix (C, C) of counts, as RGB: rows are classes, columns what they are read as, darker is a larger share."""
    side = MARGIN + CELL * len(names)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT)
    draw.text(
        (MARGIN - 6, MARGIN - 6),
        "across: read as\ndown: class",
        "gray",
        ImageFont.load_default(10),
        anchor="rd",
        align="right",
    )
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row, name in enumerate(names):
        middle = MARGIN + CELL * row + CELL // 2
        draw.text((MARGIN - 6, middle), name, "black", font, anchor="rm")
        picture.paste(_upright(name, font), (middle - FONT, 0))
        for column, share in enumerate(shares[row]):
            _draw_cell(draw, row, column, float(share), right=row == column)
    return np.asarray(picture)


def _draw_cell(draw: ImageDraw.ImageDraw, row: int, column: int, share: float, right: bool) -> None:
    """Blue on the diagonal, red elsewhere; the percentage where it would not be 0."""
    left, top = MARGIN + CELL * column, MARGIN + CELL * row
    pale = round(255 * (1 - share**0.5))
    fill = (pale, pale, 255) if right else (255, pale, pale)
    draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=fill)
    if share >= 0.005:
        text = str(round(100 * share))
        ink = "white" if share > 0.3 else "black"
        draw.text((left + CELL // 2 - 1, top + CELL // 2 - 1), text, ink, ImageFont.load_default(9), anchor="mm")


def _upright(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Image.Image:
    strip = Image.new("RGB", (MARGIN - 6, 2 * FONT), "white")
    ImageDraw.Draw(strip).text((0, FONT), name, "black", font, anchor="lm")
    return strip.rotate(90, expand=True)


def draw_nearest(samples: Images, train: Images) -> NDArray[np.uint8]:
    """A page of samples (N, 28, 28), each left of the training image nearest to it."""
    shown = samples[: HEIGHT * WIDTH]
    nearest = train[nearest_rows(shown, train)[0]]
    pairs = np.stack([shown, nearest], axis=1).reshape(-1, *shown.shape[1:])
    return pages.page(pairs, HEIGHT, 2 * WIDTH, SCALE)
