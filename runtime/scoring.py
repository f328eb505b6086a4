"""How well a flow explains latents under each class, by each rule of Bayes' classification."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import bayes, noise
from .bayes import DenoisingBank, Floats, LabelledVelocity, Rule

LabelledVelocityAndDivergence = Callable[[Floats, Floats, NDArray[np.int64]], tuple[Floats, Floats]]
_CHUNK_ROWS = 8192  # evaluations of the flow at a time, so that memory is bounded


class Scorer:
    """Scores latents (N, *latent_shape): log p(z | y) up to a constant, float64 (N, classes)."""

    def __init__(
        self,
        classes: int,
        latent_shape: tuple[int, ...],
        bank: DenoisingBank,
        likelihood_steps: int,
        velocity: LabelledVelocity,
        velocity_and_divergence: LabelledVelocityAndDivergence,
    ) -> None:
        self._classes, self._size = classes, math.prod(latent_shape)
        self._times, self._weights = np.array(bank.times), np.array(bank.weights)
        self._noise = noise.normal(bank.seed, 0, len(bank.times), latent_shape)
        self._steps = likelihood_steps
        self._velocity, self._velocity_and_divergence = velocity, velocity_and_divergence

    def __call__(self, latents: NDArray[np.float32], rule: Rule) -> Floats:
        """Scores by a rule; ValueError for an unknown one."""
        if rule == "denoising":
            score, rows_of_one = self._denoising, self._classes * len(self._times)
        elif rule == "likelihood":
            score, rows_of_one = self._likelihood, self._classes * self._size
        elif rule == "ode":
            score, rows_of_one = self._noise_norm, self._classes
        else:
            raise ValueError(f"rule is one of {', '.join(bayes.RULES)}, not {rule!r}")
        size = max(1, _CHUNK_ROWS // rows_of_one)
        parts = [score(latents[start : start + size]) for start in range(0, len(latents), size)]
        return np.concatenate(parts) if parts else np.empty((0, self._classes))

    def log_density(self, latents: NDArray[np.float32]) -> Floats:
        """Log p(z) in nats of latents (N, *latent_shape), whatever their class: float64 (N,)."""
        size = max(1, _CHUNK_ROWS // self._size)
        parts = [self._unconditional(latents[start : start + size]) for start in range(0, len(latents), size)]
        return np.concatenate(parts) if parts else np.empty(0)

    def denoising_errors(self, z: Floats) -> Floats:
        """The errors (N, K, classes) at the bank's pairs, which their weights turn into scores; not in pieces."""
        return bayes.denoising_errors(self._velocity, z, self._times, self._noise, self._classes)

    def _denoising(self, z: Floats) -> Floats:
        return bayes.denoising_scores(self.denoising_errors(z), self._weights)

    def _likelihood(self, z: Floats) -> Floats:
        return self._log_densities(z, self._velocity_and_divergence, np.arange(self._classes))

    def _unconditional(self, z: Floats) -> Floats:
        densities = self._log_densities(z, self._velocity_and_divergence, np.array([self._classes]))
        return densities[:, 0]

    def _noise_norm(self, z: Floats) -> Floats:
        def without_divergence(x: Floats, t: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
            return self._velocity(x, t, labels), np.zeros(len(x))

        return self._log_densities(z, without_divergence, np.arange(self._classes))

    def _log_densities(self, z: Floats, field: LabelledVelocityAndDivergence, labels: NDArray[np.int64]) -> Floats:
        """Of every latent (N, ...) under every label (M,): (N, M)."""
        each = np.tile(labels, len(z))
        found = bayes.log_density(
            lambda x, t: field(x, np.full(len(x), t), each), np.repeat(z, len(labels), axis=0), self._steps
        )
        return found.reshape(len(z), len(labels))
