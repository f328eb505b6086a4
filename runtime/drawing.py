"""How a flow's latents are drawn: by a solver, guided, from the seeded noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from . import noise, sampling
from .bayes import Floats, LabelledVelocity
from .checks import one_of
from .settings import Way


def states(
    way: Way,
    labels: NDArray[np.int64],
    first: int,
    velocity: LabelledVelocity,
    shape: tuple[int, ...],
    no_class: int,
) -> Iterator[NDArray[np.float32]]:
    """Noise (N, *shape) of images `first` on, what every step of the way makes of it, and latents in the end.

    labels: (N,); no_class: the label with which the flow moves towards any class.
    """
    solver = one_of("sampler", way.sampler, sampling.SOLVERS)

    def draw(stream: int) -> NDArray[np.float32]:
        return noise.normal(way.seed, first, len(labels), shape, stream)

    field = _guided(velocity, labels, no_class, way.weight, way.guidance_start)
    x, times = draw(0).astype(np.float64), sampling.time_grid(way.steps)
    for state in sampling.solve(solver, field, x, times, way.diffusion, lambda step: draw(step + 1)):
        yield state.astype(np.float32)


def _guided(
    velocity: LabelledVelocity, labels: NDArray[np.int64], no_class: int, weight: float, start: float
) -> Callable[[Floats, float], Floats]:
    """The velocity of these labels, guided from time `start` on, as a function of (x, t)."""
    both = np.concatenate([labels, np.full_like(labels, no_class)])

    def field(x: Floats, t: float) -> Floats:
        if weight == 1 or t < start:
            return velocity(x, np.full(len(x), t), labels)
        found = velocity(np.concatenate([x, x]), np.full(len(both), t), both)
        guided: Floats = sampling.guided(found[: len(x)], found[len(x) :], weight)
        return guided

    return field
