"""Philox4x64-10 (Salmon et al., 2011) in numpy's arithmetic, for few words at a time.

numpy.random has it in C, but takes longer to load than this takes for a page's noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
ROUNDS = 10
FACTORS = np.array([[0xD2E7470EE14C6C93], [0xCA5A826395121157]], np.uint64)
KEY_STEPS = np.array([[0x9E3779B97F4A7C15], [0xBB67AE8584CAA73B]], np.uint64)
HALF, LOW_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)


def words(key: int, first: int, stream: int, count: int) -> Words:
    """Four words (count, 4) of each of the counters (first, stream, 0, 0) to (first + count - 1, stream, 0, 0).

    key: its first word; the second one is 0.
    """
    counters = np.uint64(first) + np.arange(count, dtype=np.uint64)
    even, odd = np.stack([counters, np.zeros_like(counters)]), np.zeros((2, count), np.uint64)
    odd[0] = stream
    keys = np.array([[key], [0]], np.uint64)
    for _ in range(ROUNDS):
        high, low = _product(even)
        even, odd, keys = high[::-1] ^ odd ^ keys, low[::-1], keys + KEY_STEPS
    return np.stack([even, odd], axis=-1).transpose(1, 0, 2).reshape(count, 4)


def _product(x: Words) -> tuple[Words, Words]:
    """The upper and lower 64 bits of FACTORS times x (2, N), by halves."""
    high, low = FACTORS >> HALF, FACTORS & LOW_HALF
    x_high, x_low = x >> HALF, x & LOW_HALF
    crossed = high * x_low
    middle = (low * x_low >> HALF) + (crossed & LOW_HALF) + low * x_high
    return high * x_high + (crossed >> HALF) + (middle >> HALF), FACTORS * x
