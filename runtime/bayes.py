"""Classification by Bayes' rule with a generative model: three ways to score a latent under each class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Rule = Literal["denoising", "ode", "likelihood"]  # from the cheapest on, where a few pairs do
RULES: tuple[Rule, ...] = get_args(Rule)

Floats = NDArray[np.floating[Any]]
# (x (R, ...), t) -> velocity (R, ...) and divergence (R,)
VelocityAndDivergence = Callable[[Floats, float], tuple[Floats, Floats]]
# (x (R, ...), t (R,), labels (R,)) -> velocity (R, ...)
LabelledVelocity = Callable[[Floats, Floats, NDArray[np.int64]], Floats]


@dataclass(frozen=True)
class DenoisingBank:
    """The pairs (t, noise) of the denoising rule, shared by all classes and images.

    Pair k has time times[k] and weight weights[k]; its noise is that of image k of seed `seed` (see noise.py).
    """

    times: tuple[float, ...]
    weights: tuple[float, ...]
    seed: int


def log_density(field: VelocityAndDivergence, z: Floats, steps: int) -> Floats:
    """Log p(z) in nats, (N,), by the change of variables along the ODE run back from z.

    log p(z) = log N(x_0; 0, I) - integral of the divergence over t from 0 to 1 (arXiv 1810.01367, eq. 4).
    With a divergence of zero it is the norm of the noise alone. Classic Runge-Kutta, four evaluations a step.
    """
    x, integral, size = np.asarray(z, np.float64), np.zeros(len(z)), 1 / steps
    for step in range(steps):
        t = 1 - step * size
        v1, d1 = field(x, t)
        v2, d2 = field(x - 0.5 * size * v1, t - 0.5 * size)
        v3, d3 = field(x - 0.5 * size * v2, t - 0.5 * size)
        v4, d4 = field(x - size * v3, max(0.0, t - size))
        x = x - size / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        integral = integral + size / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return _standard_normal_log_density(x) - integral


def denoising_errors(velocity: LabelledVelocity, z: Floats, times: Floats, noise: Floats, classes: int) -> Floats:
    """Mean squared errors of the velocity for every image, pair (times[k], noise[k]) and class: (N, K, C).

    z is (N, ...), times (K,), noise (K, ...); all images and classes share the pairs (arXiv 2303.16203, section 3).
    """
    t = times.reshape(1, -1, *[1] * (z.ndim - 1))
    x = (1 - t) * noise[None] + t * z[:, None]
    target = (z[:, None] - noise[None]).reshape(len(z), len(times), 1, -1)
    found = velocity(
        np.repeat(x.reshape(-1, *z.shape[1:]), classes, axis=0),
        np.repeat(np.tile(times, len(z)), classes),
        np.tile(np.arange(classes), len(z) * len(times)),
    )
    difference = found.reshape(len(z), len(times), classes, -1) - target
    errors: Floats = np.square(difference).mean(-1)
    return errors


def denoising_scores(errors: Floats, weights: Floats) -> Floats:
    """Log p(z | y) up to a constant, (N, C), from denoising errors (N, K, C) and their weights (K,)."""
    scores: Floats = -np.einsum("nkc,k->nc", errors, weights)
    return scores


def posterior(scores: Floats, prior: Floats, temperature: float = 1.0) -> NDArray[np.float32]:
    """p(y | x) by Bayes' rule from scores (N, C), log p(x | y) up to a constant: float32 (N, C), rows sum to 1.

    `temperature` divides the scores: above 1 it takes back the confidence of scores that add up correlated errors.
    """
    logits = np.asarray(scores, np.float64) / temperature + np.log(np.asarray(prior, np.float64))
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    normalised: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def _standard_normal_log_density(x: Floats) -> Floats:
    flat = x.reshape(len(x), -1)
    density: Floats = -0.5 * np.square(flat).sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)
    return density
