"""Judge the samples of a model as docs/architecture.md describes: against test images, for the test set's labels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluator import Evaluator, Reading
from evaluation.figures import NEIGHBOURS, frechet_distance, prdc, typical_distance
from runtime.datasets import LabelledImages
from runtime.errors import DataError

PRDC_COUNT = 5000
MEMORISATION_COUNT = 2000
FIGURES = ("fidelity", "frechet_multiple", "precision", "recall", "density", "coverage")


class Judge:
    """Judges samples by one evaluator, beside real training images in their place.

    Training images are drawn to have the wanted labels' class counts; their Frechet distance is the floor.
    """

    def __init__(self, evaluator: Evaluator, wanted: LabelledImages, train: LabelledImages) -> None:
        if len(wanted.images) <= NEIGHBOURS:
            raise DataError(f"{len(wanted.images)} images are too few to judge by: there must be {NEIGHBOURS + 1}")
        self._evaluator = evaluator
        self._real = evaluator(wanted.images)
        figures = _figures(evaluator(stand_in(train, wanted.labels).images), wanted.labels, self._real)
        self._floor = figures.pop("frechet_distance")
        if not self._floor > 0:
            raise DataError("the images to judge by are all alike")
        self.accuracy = float((self._real.labels == wanted.labels).mean())
        self.real = figures | {"frechet_multiple": 1.0}

    def __call__(self, samples: LabelledImages) -> dict[str, float]:
        """FIGURES of samples, and their "frechet_distance"."""
        found = _figures(self._evaluator(samples.images), samples.labels, self._real)
        return found | {"frechet_multiple": found["frechet_distance"] / self._floor}


class Memorisation:
    """The median pixel distance to the nearest training image over that of real images that were not trained on."""

    def __init__(self, real: NDArray[np.uint8], train: NDArray[np.uint8]) -> None:
        """MEMORISATION_COUNT images of each side are enough."""
        self._train = train
        self._real = typical_distance(self._some(real), train)
        if not self._real > 0:
            raise DataError("the images to judge by are copies of training images")

    def __call__(self, samples: NDArray[np.uint8]) -> float:
        """Near or above 1 for new images, near 0 for copies of training images."""
        return typical_distance(self._some(samples), self._train) / self._real

    def _some(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images[np.random.default_rng(0).permutation(len(images))[:MEMORISATION_COUNT]]


def stand_in(train: LabelledImages, labels: NDArray[np.int64]) -> LabelledImages:
    """Training images in the place of samples for these labels."""
    return LabelledImages(train.images[matching_rows(train.labels, labels)], labels)


def matching_rows(available: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of `available` labels, without repeats, whose labels are `wanted` one by one."""
    generator = np.random.default_rng(0)
    rows = np.empty(len(wanted), np.int64)
    for label in np.unique(wanted):
        places, found = np.flatnonzero(wanted == label), np.flatnonzero(available == label)
        if len(found) < len(places):
            raise DataError(
                f"{len(found)} training images of class {label} can't stand in for {len(places)} to judge by"
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
        **asdict(prdc(real.features[pick_real], found.features[pick_found])),
    }
