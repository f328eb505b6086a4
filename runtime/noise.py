"""Seeded Gaussian noise that is the same for image i whatever is drawn before, after or beside it.

Specification. Image i of a stream with D elements uses W = ceil(D / 8) counters of Philox4x64-10
(Salmon et al., 2011) with key (seed, 0); counter number c of stream s is (1 + i W + c, s, 0, 0), added as one
256-bit integer. The counters' 4 W 64-bit words come in order. Word j gives elements 2j and 2j + 1 by Box-Muller:
with h its high and l its low 32 bits, r = sqrt(-2 ln((h + 1/2) / 2^32)) and a = 2 pi l / 2^32, they are
r cos a and r sin a, computed in float64 and rounded to float32. Elements past D are dropped.
"""

from __future__ import annotations

import math
import threading
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import philox

WORDS_PER_COUNTER = 4
FEW_COUNTERS = 2048  # that take less time than numpy.random to load
MAX_SEED = 2**64 - 1


class _OfThread(threading.local):
    """What each thread keeps: to make a Philox costs more than a single image's noise, and slows what is run next."""

    is_new = True

    @cached_property
    def philox(self) -> np.random.Philox:
        """Made where a thread's first words are many, or when it wants more: numpy.random is slow to import."""
        return np.random.Philox(key=0)


_of_thread = _OfThread()


def normal(seed: int, first: int, count: int, shape: tuple[int, ...], stream: int = 0) -> NDArray[np.float32]:
    """Standard normal noise of images `first` to `first + count - 1`: float32 (count, *shape)."""
    size = math.prod(shape)
    counters = math.ceil(size / (2 * WORDS_PER_COUNTER))
    words = _words(seed, 1 + first * counters, stream, count * counters)
    radius = np.sqrt(-2 * np.log(((words >> np.uint64(32)) + 0.5) * 2.0**-32))
    angle = (words & np.uint64(0xFFFFFFFF)) * (2 * np.pi * 2.0**-32)
    elements = np.empty((len(words), 2), np.float32)
    elements[:, 0] = radius * np.cos(angle)
    elements[:, 1] = radius * np.sin(angle)
    by_image = elements.reshape(count, 2 * WORDS_PER_COUNTER * counters)
    return np.ascontiguousarray(by_image[:, :size]).reshape(count, *shape)


def _words(seed: int, first: int, stream: int, counters: int) -> NDArray[np.uint64]:
    """The words of so many counters from (first, stream, 0, 0) on."""
    is_new, _of_thread.is_new = _of_thread.is_new, False
    if is_new and counters <= FEW_COUNTERS:
        return philox.words(seed, first, stream, counters).ravel()
    generator = _of_thread.philox
    generator.state = {
        "bit_generator": "Philox",
        "state": {
            "counter": np.array([first - 1, stream, 0, 0], np.uint64),  # it counts before it gives words
            "key": np.array([seed, 0], np.uint64),
        },
        "buffer": np.zeros(WORDS_PER_COUNTER, np.uint64),
        "buffer_pos": WORDS_PER_COUNTER,  # none of it is left
        "has_uint32": 0,
        "uinteger": 0,
    }
    words: NDArray[np.uint64] = generator.random_raw(counters * WORDS_PER_COUNTER)
    return words
