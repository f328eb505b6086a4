"""How well a model classifies labelled images, and explains them: by Bayes' rule, its likelihood, its autoencoder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import classification
from runtime import bayes
from runtime.bayes import Rule
from runtime.datasets import LabelledImages
from runtime.model import Model
from runtime.tracking import Tracker, untracked

LEAST_PROBABILITY = 1e-38  # that float32 tells from 0
LIKELIHOOD_IMAGES = 500  # the exact likelihood is slow


def measure_accuracy(
    model: Model, data: LabelledImages, rule: Rule | None = None, batch_size: int = 128, track: Tracker = untracked
) -> dict[str, Any]:
    """Accuracy, calibration, confusions, likelihood and the autoencoder's losses, as JSON values.

    Losses are means over images of what Model.reconstruction_losses gives; "confusion" has a row for each class.
    The calibration error before temperature is that of scores multiplied by it again, also where a posterior is a mean
    of several readings. "seconds" are those of classifying.
    """
    started = time.perf_counter()
    chosen: Rule = rule or model.bundle.classifier.rule
    batches = _batches(data.images, batch_size, "classifying, batches", track)
    posterior = np.concatenate([model.classify(images, rule=chosen) for images in batches])
    seconds = time.perf_counter() - started
    prior, temperature = np.array(model.bundle.prior), model.bundle.classifier.temperatures[chosen]
    scores = np.log(np.maximum(posterior.astype(np.float64), LEAST_PROBABILITY) / prior)
    plain = bayes.posterior(temperature * scores, prior)
    found = posterior.argmax(1)
    confusion = classification.confusion_matrix(found, data.labels, len(model.classes))
    parts = [
        model.reconstruction_losses(images)
        for images in _batches(data.images, batch_size, "reconstructing, batches", track)
    ]
    losses = {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]}
    return {
        "accuracy": float((found == data.labels).mean()),
        "correct": int((found == data.labels).sum()),
        "images": len(data.images),
        "rule": chosen,
        "negative_log_posterior": classification.negative_log_posterior(posterior, data.labels),
        "calibration_error": classification.calibration_error(posterior, data.labels),
        "calibration_error_before_temperature": classification.calibration_error(plain, data.labels),
        "temperature": temperature,
        "class_accuracy": classification.class_accuracies(confusion, model.classes),
        "worst_confusions": classification.worst_confusions(confusion, model.classes),
        "confusion": confusion.tolist(),
        "losses": losses,
        "seconds": seconds,
    }


def measure_likelihood(model: Model, data: LabelledImages, track: Tracker = untracked) -> dict[str, Any]:
    """Mean log-likelihood of the latents of LIKELIHOOD_IMAGES evenly spread images, whatever their class.

    As JSON values: in nats, and as bits a dimension: -log2 p(z) over the number of the latent's elements.
    """
    density = _densities(model, data.images, track)
    nats, deviation = float(density.mean(dtype=np.float64)), float(density.std(dtype=np.float64))
    return {
        "images": len(density),
        "nats": nats,
        "standard_error": deviation / math.sqrt(len(density)),
        "bits_per_dimension": -nats / (math.log(2) * math.prod(model.latent_shape)),
        "unlike_training_data": float(model.is_unlike_training(density).mean()),
    }


def measure_separation(
    model: Model,
    familiar: NDArray[np.uint8],
    strangers: Mapping[str, NDArray[np.uint8]],
    track: Tracker = untracked,
) -> dict[str, dict[str, float]]:
    """How well log p(z) tells familiar images (N, 28, 28) from others, for each by name.

    "area_under_curve": of the ROC curve; "flagged": the share that Model.is_unlike_training holds for strange.
    """
    own, found = _densities(model, familiar, track), {}
    for name, images in strangers.items():
        density = _densities(model, images, track)
        found[name] = {
            "area_under_curve": classification.separation(own, density),
            "flagged": float(model.is_unlike_training(density).mean()),
        }
    return found


def evenly_spread(there: int, wanted: int) -> NDArray[np.int64]:
    """The rows (wanted,) of so many that are there, from the first to the last."""
    return np.linspace(0, there - 1, wanted).round().astype(np.int64)


def _densities(model: Model, images: NDArray[np.uint8], track: Tracker) -> NDArray[np.float32]:
    """Log p(z) of LIKELIHOOD_IMAGES evenly spread images, or of all where there are fewer."""
    chosen = images[evenly_spread(len(images), min(LIKELIHOOD_IMAGES, len(images)))]
    return np.concatenate([model.log_density(part) for part in _batches(chosen, 50, "log p(z), batches", track)])


def _batches(images: NDArray[np.uint8], size: int, label: str, track: Tracker) -> Iterator[NDArray[np.uint8]]:
    starts = range(0, len(images), size)
    for start in track(starts, len(starts), label):
        yield images[start : start + size]
