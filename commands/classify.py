"""``classify``: the most probable classes of image files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from commands.models import Choice, opened
from runtime import Model
from runtime import images as pictures
from runtime.bayes import Rule
from runtime.datasets import Invert
from runtime.errors import DataError

UNLIKE, SEVERAL = "unlike the training data", "several characters, read as one?"


def classify(choice: Choice, files: Sequence[Path], top: int, rule: Rule | None, invert: Invert, as_json: bool) -> str:
    """Classify image files; returns lines for people or one JSON object.

    Raises DataError for files that can't be read, once what was found of the others is printed.
    """
    model = opened(choice)
    read, refused = [], []
    for path in files:
        try:
            read.append(_Picture(path, *pictures.examine(path, invert, choice.dataset.framing)))
        except DataError as error:
            refused.append(str(error))
    said = _classified(model, read, top, rule, as_json) if read else ""
    if refused:
        if read:
            click.echo(said)
        raise DataError("; ".join(refused))
    return said


class _Picture(NamedTuple):
    """A file, what is read of it, and whether it seems to show several characters."""

    path: Path
    image: NDArray[np.uint8]
    several: bool


def _classified(model: Model, read: Sequence[_Picture], top: int, rule: Rule | None, as_json: bool) -> str:
    """What is said of pictures."""
    inputs = np.stack([picture.image for picture in read])
    started = time.perf_counter()
    posterior = model.classify(inputs, rule=rule)
    seconds = time.perf_counter() - started
    density = model.log_density(inputs)
    unlike = model.is_unlike_training(density)
    best = np.argsort(-posterior, axis=1, kind="stable")[:, :top]
    if not as_json:
        lines = []
        for picture, row, order, strange in zip(read, posterior, best, unlike, strict=True):
            classes = ", ".join(f"{model.classes[label]} {row[label]:.1%}" for label in order)
            doubts = [text for text, there in ((UNLIKE, strange), (SEVERAL, picture.several)) if there]
            lines.append(f"{picture.path}: {classes}" + (f" ({'; '.join(doubts)})" if doubts else ""))
        return "\n".join(lines)
    results = [
        {
            "file": str(picture.path),
            "class": model.classes[order[0]],
            "probabilities": {name: float(p) for name, p in zip(model.classes, row, strict=True)},
            "log_density": float(nats),
            "unlike_training_data": bool(strange),
            "several_characters": picture.several,
        }
        for picture, row, order, nats, strange in zip(read, posterior, best, density, unlike, strict=True)
    ]
    versions = {
        "bundle": model.bundle.name,
        "checksum": model.bundle.checksum,
        "rule": rule or model.bundle.classifier.rule,
    }
    return json.dumps({**versions, "seconds": seconds, "images": results})
