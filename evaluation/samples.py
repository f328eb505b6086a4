"""Judge the samples of a model as docs/architecture.md describes: against test images, for the test set's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluator import Evaluator, Reading
from evaluation.figures import frechet_distance, prdc
from runtime.datasets import LabelledImages
from runtime.errors import DataError

PRDC_COUNT = 5000


def judge_samples(
    samples: LabelledImages, test: LabelledImages, train: LabelledImages, evaluator: Evaluator
) -> dict[str, Any]:
    """Figures of samples beside the same figures of real training images in their place.

    Training images are drawn to have the test set's class counts; their distance is the floor.
    """
    real = evaluator(test.images)
    chosen = matching_rows(train.labels, test.labels)
    stand_in = LabelledImages(train.images[chosen], test.labels)
    floor = _figures(evaluator(stand_in.images), stand_in.labels, real)
    found = _figures(evaluator(samples.images), samples.labels, real)
    return {
        "samples": len(samples.images),
        "frechet_multiple": found["frechet_distance"] / floor["frechet_distance"],
        **found,
        "real": floor | {"accuracy": float((real.labels == test.labels).mean())},
    }


def matching_rows(available: NDArray[np.int64], wanted: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Rows of `available` labels, without repeats, whose labels are `wanted` one by one."""
    generator = np.random.default_rng(seed)
    rows = np.empty(len(wanted), np.int64)
    for label in np.unique(wanted):
        places, found = np.flatnonzero(wanted == label), np.flatnonzero(available == label)
        if len(found) < len(places):
            raise DataError(
                f"{len(found)} training images of class {label} can't stand in for {len(places)} test images"
            )
        rows[places] = generator.permutation(found)[: len(places)]
    return rows


def _figures(found: Reading, labels: NDArray[np.int64], real: Reading) -> dict[str, Any]:
    count = min(PRDC_COUNT, len(found.features), len(real.features))
    order = np.random.default_rng(0)
    pick_found, pick_real = (order.permutation(len(side.features))[:count] for side in (found, real))
    return {
        "fidelity": float((found.labels == labels).mean()),
        "frechet_distance": frechet_distance(found.features, real.features),
        **prdc(real.features[pick_real], found.features[pick_found]).as_dict(),
    }
