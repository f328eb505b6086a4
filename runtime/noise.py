"""Seeded Gaussian noise that is the same for image i whatever is drawn before, after or beside it.

Specification. Image i of a stream with D elements uses W = ceil(D / 8) counters of Philox4x64-10
(Salmon et al., 2011) with key (seed, 0); counter number c of stream s is (1 + i W + c, s, 0, 0), added as one
256-bit integer. The counters' 4 W 64-bit words come in order. Word j gives elements 2j and 2j + 1 by Box-Muller:
with h its high and l its low 32 bits, r = sqrt(-2 ln((h + 1/2) / 2^32)) and a = 2 pi l / 2^32, they are
r cos a and r sin a, computed in float64 and rounded to float32. Elements past D are dropped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WORDS_PER_COUNTER = 4
MAX_SEED = 2**64 - 1


def normal(seed: int, first: int, count: int, shape: tuple[int, ...], stream: int = 0) -> NDArray[np.float32]:
    """Standard normal noise of images `first` to `first + count - 1`: float32 (count, *shape)."""
    size = math.prod(shape)
    counters = math.ceil(size / (2 * WORDS_PER_COUNTER))
    key = np.array([seed, 0], np.uint64)
    counter = np.array([first * counters, stream, 0, 0], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(count * counters * WORDS_PER_COUNTER)
    radius = np.sqrt(-2 * np.log(((words >> np.uint64(32)) + 0.5) * 2.0**-32))
    angle = (words & np.uint64(0xFFFFFFFF)) * (2 * np.pi * 2.0**-32)
    elements = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return elements.reshape(count, -1)[:, :size].astype(np.float32).reshape(count, *shape)
