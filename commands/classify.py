"""``classify``: the most probable classes of image files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from commands.models import Choice, opened
from runtime import Model
from runtime import images as pictures
from runtime.bayes import Rule
from runtime.datasets import Invert
from runtime.errors import DataError

UNLIKE = " (unlike the training data)"


def classify(choice: Choice, files: Sequence[Path], top: int, rule: Rule | None, invert: Invert, as_json: bool) -> str:
    """Classify image files; returns lines for people or one JSON object.

    Raises DataError for files that can't be read, once what was found of the others is printed.
    """
    read, inputs, refused = [], [], []
    for path in files:
        try:
            inputs.append(pictures.read_picture(path, invert, choice.dataset.framing))
            read.append(path)
        except DataError as error:
            refused.append(str(error))
    said = _classified(opened(choice), read, np.stack(inputs), top, rule, as_json) if read else ""
    if refused:
        if read:
            click.echo(said)
        raise DataError("; ".join(refused))
    return said


def _classified(
    model: Model, files: Sequence[Path], inputs: NDArray[np.uint8], top: int, rule: Rule | None, as_json: bool
) -> str:
    """What is said of images (N, 28, 28), of these files."""
    started = time.perf_counter()
    posterior = model.classify(inputs, rule=rule)
    seconds = time.perf_counter() - started
    density = model.log_density(inputs)
    unlike = model.is_unlike_training(density)
    best = np.argsort(-posterior, axis=1, kind="stable")[:, :top]
    if not as_json:
        return "\n".join(
            f"{path}: "
            + ", ".join(f"{model.classes[label]} {row[label]:.1%}" for label in order)
            + (UNLIKE if strange else "")
            for path, row, order, strange in zip(files, posterior, best, unlike, strict=True)
        )
    results = [
        {
            "file": str(path),
            "class": model.classes[order[0]],
            "probabilities": {name: float(p) for name, p in zip(model.classes, row, strict=True)},
            "log_density": float(nats),
            "unlike_training_data": bool(strange),
        }
        for path, row, order, nats, strange in zip(files, posterior, best, density, unlike, strict=True)
    ]
    versions = {
        "bundle": model.bundle.name,
        "checksum": model.bundle.checksum,
        "rule": rule or model.bundle.classifier.rule,
    }
    return json.dumps({**versions, "seconds": seconds, "images": results})
