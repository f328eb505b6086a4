"""What posteriors are worth: accuracy, calibration, and which classes are taken for which; numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
WORST = 10
_LEAST_PROBABILITY = 1e-30

Labels = NDArray[np.int64]
Posterior = NDArray[np.float32]


def negative_log_posterior(posterior: Posterior, labels: Labels) -> float:
    """Mean over images, in nats: posterior (N, C), labels (N,)."""
    chosen = posterior[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, _LEAST_PROBABILITY)).mean())


def calibration_error(posterior: Posterior, labels: Labels) -> float:
    """Expected calibration error: |accuracy - confidence| in BINS bins of confidence (arXiv 1706.04599, eq. 3)."""
    confidence, correct = posterior.max(1).astype(np.float64), posterior.argmax(1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, correct - confidence, BINS)
    return float(np.abs(gaps).sum() / len(labels))


def confusion_matrix(found: Labels, labels: Labels, classes: int) -> NDArray[np.int64]:
    """How many images of each class (row) were read as each class (column): (C, C)."""
    counts: NDArray[np.int64] = np.bincount(labels * classes + found, minlength=classes**2).reshape(classes, classes)
    return counts


def class_accuracies(confusion: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, float | None]:
    """Accuracy of each class by name; None where a class has no images."""
    totals = confusion.sum(1)
    return {name: float(confusion[i, i] / totals[i]) if totals[i] else None for i, name in enumerate(names)}


def worst_confusions(confusion: NDArray[np.int64], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The WORST most frequent mistakes, most frequent first."""
    mistakes = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:WORST]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        {"class": names[true], "read_as": names[found], "images": int(mistakes[true, found])}
        for true, found in pairs
        if mistakes[true, found]
    ]


def separation(familiar: NDArray[np.floating[Any]], strange: NDArray[np.floating[Any]]) -> float:
    """Area under the ROC curve: how likely a familiar image's score (N,) is to exceed a strange one's (M,)."""
    ordered = np.sort(strange)
    below, up_to = (np.searchsorted(ordered, familiar, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(strange)))
