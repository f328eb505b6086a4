"""``classify``: the most probable classes of image files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from commands.models import Choice, opened
from runtime import images as pictures
from runtime.bayes import Rule
from runtime.images import Invert

UNLIKE = " (unlike the training data)"


def classify(choice: Choice, files: Sequence[Path], top: int, rule: Rule | None, invert: Invert, as_json: bool) -> str:
    """Classify image files; returns lines for people or one JSON object."""
    inputs = np.stack([pictures.read_picture(path, invert, choice.dataset.framing) for path in files])
    model = opened(choice)
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
