"""Figures of merit of generated images, in pixels and in the feature space of an evaluator network; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.datasets import Images

Features = NDArray[np.float32]
NEIGHBOURS = 5
_POOL_CHUNK = 4096


@dataclass(frozen=True)
class Prdc:
    """Precision, recall, density and coverage (arXiv 2002.09797), each from features of equal numbers."""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(first: Features, second: Features) -> float:
    """Squared Frechet distance of Gaussians fitted to features (N, D) and (M, D) (arXiv 1706.08500, eq. 6)."""
    difference = first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)
    a, b = (np.cov(features.astype(np.float64), rowvar=False) for features in (first, second))
    root = _square_root(a)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    return float(difference @ difference + np.trace(a) + np.trace(b) - 2 * cross)


def prdc(real: Features, generated: Features, neighbours: int = NEIGHBOURS) -> Prdc:
    """Precision, recall, density and coverage of generated (M, D) against real (N, D)."""
    between = _squared_distances(real, generated)
    real_radius = _neighbour_radius(real, neighbours)
    generated_radius = _neighbour_radius(generated, neighbours)
    inside_real = between <= real_radius[:, None]
    return Prdc(
        precision=float(inside_real.any(0).mean()),
        recall=float((between <= generated_radius[None]).any(1).mean()),
        density=float(inside_real.sum(0).mean() / neighbours),
        coverage=float((between.min(1) <= real_radius).mean()),
    )


def nearest_rows(images: Images, pool: Images) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The row of the nearest pool image (M, 28, 28), and its pixel distance, for each image (N, 28, 28): (N,) each."""
    rows, least = np.zeros(len(images), np.int64), np.full(len(images), np.inf, np.float32)
    wanted = _flat(images)
    for start in range(0, len(pool), _POOL_CHUNK):
        others = _flat(pool[start : start + _POOL_CHUNK])
        found = np.square(others).sum(1) - 2 * wanted @ others.T  # without |wanted|^2, which changes no order
        place = found.argmin(1)
        nearest = found[np.arange(len(images)), place]
        rows, least = np.where(nearest < least, start + place, rows), np.minimum(nearest, least)
    return rows, np.linalg.norm(wanted.astype(np.float64) - _flat(pool[rows]), axis=1)


def typical_distance(images: Images, train: Images) -> float:
    """Median pixel distance of images (N, 28, 28) to the nearest training image."""
    return float(np.median(nearest_rows(images, train)[1]))


def _flat(images: Images) -> Features:
    flat: Features = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return flat


def _square_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def _squared_distances(first: Features, second: Features) -> NDArray[np.float64]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    squared: NDArray[np.float64] = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.clip(squared, 0, None)


def _neighbour_radius(features: Features, neighbours: int) -> NDArray[np.float64]:
    """Squared distance of each point to its k-th nearest other point."""
    distances = _squared_distances(features, features)
    radius: NDArray[np.float64] = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return radius
