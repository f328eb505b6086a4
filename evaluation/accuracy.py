"""Bayes-rule accuracy of a model and the losses of its autoencoder, on labelled images."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from runtime.bayes import Rule
from runtime.datasets import LabelledImages
from runtime.model import Model
from runtime.tracking import Tracker, untracked

_LEAST_PROBABILITY = 1e-30


def measure_accuracy(
    model: Model, data: LabelledImages, rule: Rule | None = None, batch_size: int = 128, track: Tracker = untracked
) -> dict[str, Any]:
    """Accuracy, mean negative log-posterior in nats, and the autoencoder's losses, as JSON values.

    Losses are means over images of what Model.reconstruction_losses gives.
    """
    started = time.perf_counter()
    correct, surprise = 0, 0.0
    losses: dict[str, float] = {}
    starts = range(0, len(data.images), batch_size)
    for start in track(starts, len(starts), "testing"):
        images, labels = data.images[start : start + batch_size], data.labels[start : start + batch_size]
        posterior = model.classify(images, rule=rule)
        correct += int((posterior.argmax(1) == labels).sum())
        surprise -= float(np.log(np.maximum(posterior[np.arange(len(labels)), labels], _LEAST_PROBABILITY)).sum())
        for name, value in model.reconstruction_losses(images).items():
            losses[name] = losses.get(name, 0.0) + float(value.sum())
    count = len(data.images)
    return {
        "accuracy": correct / count,
        "correct": correct,
        "images": count,
        "rule": rule or model.bundle.defaults.rule,
        "negative_log_posterior": surprise / count,
        "losses": {name: value / count for name, value in losses.items()},
        "seconds": time.perf_counter() - started,
    }
