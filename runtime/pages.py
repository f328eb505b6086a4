"""Images out: a grid of them as a PNG, or any number as an archive.

Pillow, which takes longer to load than a page to draw, is not needed here.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .datasets import IMAGE_SIZE, Images
from .files import written_aside

if TYPE_CHECKING:
    import zipfile

MAX_PIXELS = 50_000_000
PIXELS_PER_SCALE = 100  # a cell of scale 1 has 100 pixels a side, an inch of a common screen
GAP = 0.05  # of a cell
GROUND = 32  # grey level between cells
TEXT_KEY = "parameters"
_COLOUR_TYPES = {2: 0, 3: 2}  # of a PNG, by an array's axes: grey and RGB
_UP = 2  # a PNG's filter by which each pixel is given as its difference from the one above it
_LABELS_AT_A_TIME = 1 << 16


def page(images: Images, height: int, width: int, scale: float) -> NDArray[np.uint8]:
    """A grid of images (N, 28, 28), row by row, as uint8 (rows, columns); a cell has scale * 100 pixels a side."""
    cell = _cell_size(scale)
    gap = round(cell * GAP)
    side = cell - gap
    larger = _bicubic(side)
    sheet = np.full((height * cell + gap, width * cell + gap), GROUND, np.uint8)
    for index, image in enumerate(images[: height * width]):
        row, column = divmod(index, width)
        top, left = gap + row * cell, gap + column * cell
        sheet[top : top + side, left : left + side] = np.clip(np.rint(larger @ image @ larger.T), 0, 255)
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


def _bicubic(size: int) -> NDArray[np.float32]:
    """The matrix (size, 28) that makes `size` pixels of 28 by cubic convolution (Keys, 1981, a = -1/2).

    To fewer pixels the kernel is as much wider.
    """
    step = IMAGE_SIZE / size
    places = (np.arange(size)[:, None] + 0.5) * step - 0.5
    x = np.abs(np.arange(IMAGE_SIZE) - places) / max(1, step)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    matrix: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def save_png(pixels: NDArray[np.uint8], path: Path, parameters: Mapping[str, Any]) -> None:
    """Write grey (H, W) or RGB (H, W, 3) as a PNG, with `parameters` as JSON in a text chunk; whole or not at all."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), 8, _COLOUR_TYPES[pixels.ndim], 0, 0, 0)
    text = f"{TEXT_KEY}\0{json.dumps(parameters)}".encode("latin-1")
    chunks = {b"IHDR": header, b"tEXt": text, b"IDAT": _compressed(pixels.reshape(len(pixels), -1)), b"IEND": b""}
    with written_aside(path) as aside, aside.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in chunks.items():
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


def _compressed(rows: NDArray[np.uint8]) -> bytes:
    """A PNG's image data, filtered a row at a time, so that it takes no second page of memory."""
    runs = zlib.compressobj(strategy=zlib.Z_RLE)  # only repeated pixels are looked for: less time, and smaller files
    line, above = np.full(1 + rows.shape[1], _UP, np.uint8), np.zeros_like(rows[0])
    data = bytearray()
    for row in rows:
        np.subtract(row, above, out=line[1:])
        data += runs.compress(line.data)
        above = row
    return bytes(data + runs.flush())


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
