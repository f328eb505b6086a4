"""What is refused at the door: labels, images and numbers out of range, each with one line of ValueError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .datasets import IMAGE_SIZE

Name = TypeVar("Name", bound=str)


def check_labels(labels: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Labels as int64 (N,), each in 0 to classes - 1."""
    array = np.asarray(labels)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"labels are whole numbers (N,), not {array.dtype} {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < classes:
        raise ValueError(f"labels are 0 to {classes - 1}, not {array.min()} to {array.max()}")
    return array.astype(np.int64)


def check_images(images: ArrayLike) -> NDArray[Any]:
    """Images as they are, uint8 of 0 to 255 or floats in [0, 1], (N, 28, 28)."""
    array = np.asarray(images)
    if array.ndim != 3 or array.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(f"images are (N, {IMAGE_SIZE}, {IMAGE_SIZE}), not {array.shape}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"images are uint8 or floats in [0, 1], not {array.dtype}")
    if array.dtype.kind == "f" and array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError("float images lie in [0, 1] and hold no NaN; for 0 to 255 give uint8")
    if array.dtype == np.uint8 and array.size and array.max() == 1:
        raise ValueError("uint8 images are 0 to 255, and these are 0 and 1 only; multiply them by 255")
    return array


def check_latents(latents: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Latents as float32 (N, *shape), finite."""
    array = np.asarray(latents)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"latents are floats, not {array.dtype}")
    with np.errstate(over="ignore"):  # what overflows is refused below
        array = array.astype(np.float32)
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ValueError(f"latents are (N, {', '.join(map(str, shape))}), not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("latents hold NaN or infinity")
    return array


def in_range(name: str, value: Any, least: Any, most: Any) -> Any:
    """`value` as an int or float, as the bounds are, if it lies within them."""
    whole = isinstance(least, int)
    if whole and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
        raise ValueError(f"{name} is a whole number, not {value!r}")
    if isinstance(value, bool | str):
        raise ValueError(f"{name} is a number, not {value!r}")
    try:
        number = int(value) if whole else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} is a number, not {value!r}") from error
    if not least <= number <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value}")
    return number


def one_of(name: str, value: Any, choices: Sequence[Name]) -> Name:
    """`value`, if it is one of the choices."""
    for choice in choices:
        if value == choice:
            return choice
    raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
