"""``generate``: a page or an archive of guided samples."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import runtime
from commands.models import Choice, opened
from commands.options import check_page, checked_way, names_in
from commands.progress import note, track
from runtime import pages
from runtime.sampling import FEW
from runtime.settings import Way, solver_of

Settings = dict[str, Any]  # the seed and runtime.settings.Sampling as given


def generate(
    choice: Choice,
    settings: Settings,
    labels: Sequence[str],
    height: int,
    width: int,
    scale: float,
    num: int | None,
    output: Path | None,
    batch_size: int,
    as_path: bool,
) -> str:
    """Generate and write; returns a line that says what and where.

    as_path: a page with a row for each of `height` images that shows how it arises from noise.
    """
    path = output or Path(f"generate-{choice.name}.png")
    if num is not None and path.suffix.lower() == ".png":
        raise click.UsageError(
            f"--num goes with an .npz --output; a page has --height times --width images, not {num}."
        )
    if as_path:
        return _draw_paths(choice, settings, labels, height, scale, path)
    count = height * width if num is None else num
    if path.suffix.lower() == ".png":
        check_page(height, width, scale)
    model = opened(choice)
    way = checked_way(model.bundle, settings)
    cycle = _label_indices(labels, model.classes)
    started = time.perf_counter()
    batches = model.stream(count, cycle, batch_size=batch_size, **settings)
    tracked: Iterable[NDArray[np.uint8]] = track(batches, -(-count // batch_size), "generating")
    if path.suffix.lower() == ".npz":
        pages.save_npz(path, tracked, cycle, count)
    else:
        sheet = pages.page(np.concatenate(list(tracked)), height, width, scale)
        pages.save_png(sheet, path, _parameters(model, way, cycle))
    return f"{path}: {count:,} images of {choice.dataset.key} in {time.perf_counter() - started:.2f} s"


def _draw_paths(
    choice: Choice, settings: Settings, labels: Sequence[str], height: int, scale: float, path: Path
) -> str:
    if path.suffix.lower() != ".png":
        raise click.UsageError(f"--path draws a .png, not {str(path)!r}.")
    model = opened(choice)
    way = checked_way(model.bundle, {**settings, "sampler": solver_of(model.bundle, settings)})
    if way.sampler == FEW:
        raise click.UsageError(f"--path draws a solver's steps, which sampler {FEW} does not have.")
    cycle = _label_indices(labels, model.classes)
    width = way.steps + 1
    check_page(height, width, scale)
    images = model.generate_path(np.resize(cycle, height), **settings)
    sheet = pages.page(images.reshape(-1, *images.shape[2:]), height, width, scale)
    pages.save_png(sheet, path, _parameters(model, way, cycle))
    return f"{path}: {height:,} images of {choice.dataset.key}, each from noise on in {width} columns"


def _label_indices(texts: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Class names or indices, one or several in a text, to indices; a name that is also an index counts as the name."""
    if not texts:
        return np.arange(len(classes))
    by_name = {name: index for index, name in enumerate(classes)}
    lowered = {name.lower(): index for index, name in reversed(list(enumerate(classes)))}
    indices = {str(index): index for index in range(len(classes))}
    found, swapped, counted = [], [], []
    for name in chain(*(names_in(text, lowered) for text in texts)):
        index = by_name.get(name, indices.get(name, lowered.get(name.lower())))
        if index is None:
            several = all(character.lower() in lowered for character in name)
            hint = f" For several, put spaces between: {' '.join(name)}." if several else ""
            raise click.UsageError(
                f"--labels: {name!r} is no class; there are {', '.join(classes)}, or 0 to {len(classes) - 1}.{hint}"
            )
        found.append(index)
        if name not in by_name and name.isdecimal() and set(name) <= by_name.keys():
            counted.append(f"{name} is {classes[index]}")
        if len(name) == 1 and name.swapcase() == classes[index] != name:
            swapped.append(f"{name} by {classes[index]}")
    if counted:
        note(f"classes by their index: {', '.join(dict.fromkeys(counted))}")
    if swapped:
        note(
            f"letters without a class of their own, each by that of the other case: {', '.join(dict.fromkeys(swapped))}"
        )
    return np.array(found)


def _parameters(model: runtime.Model, way: Way, labels: NDArray[np.int64]) -> dict[str, Any]:
    """What a page's text chunk says of how it was made."""
    return {
        "bundle": model.bundle.name,
        "checksum": model.bundle.checksum,
        "labels": [model.classes[label] for label in labels],
        **way.described(),
    }
