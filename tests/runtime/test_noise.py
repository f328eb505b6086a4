import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import philox
from runtime.noise import FEW_COUNTERS, MAX_SEED, normal

SHAPE = (1, 7, 7)
VECTORS = Path(__file__).resolve().parents[2] / "docs" / "examples" / "noise.json"


def philox4x64(counter: int, key: int) -> list[int]:
    """Philox4x64-10 of Salmon et al. 2011, from the paper, in whole numbers."""
    mask = 2**64 - 1
    c = [counter >> (64 * i) & mask for i in range(4)]
    k = [key & mask, key >> 64]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ k[0], second & mask, (first >> 64) ^ c[3] ^ k[1], first & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_follows_its_specification():
    seed, image, stream, size = 123456789, 5, 2, 49
    counters = -(-size // 8)
    words = [word for c in range(counters) for word in philox4x64(1 + image * counters + c + (stream << 64), seed)]
    elements = []
    for word in words:
        radius, angle = np.sqrt(-2 * np.log(((word >> 32) + 0.5) / 2**32)), 2 * np.pi * (word & 0xFFFFFFFF) / 2**32
        elements += [radius * np.cos(angle), radius * np.sin(angle)]
    found = normal(seed, image, 1, SHAPE, stream)
    np.testing.assert_allclose(found.ravel(), elements[:size], rtol=1e-6)


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text()))
def test_vectors(vector):
    seed, image, size = int(vector["seed"]), vector["image"], vector["size"]
    words = philox4x64(1 + image * -(-size // 8), seed)
    assert [f"{word:016x}" for word in words] == vector["words"]
    found = normal(seed, image, 1, (size,)).ravel()
    np.testing.assert_allclose([*found[:4], found[-1]], [*vector["first"], vector["last"]], atol=1e-5)


@given(st.integers(0, MAX_SEED), st.integers(0, 10**6), st.integers(1, 20), st.integers(0, 50))
def test_an_image_is_the_same_whatever_is_drawn_beside_it(seed, first, count, stream):
    together = normal(seed, first, count, SHAPE, stream)
    alone = np.concatenate([normal(seed, first + i, 1, SHAPE, stream) for i in range(count)])
    np.testing.assert_array_equal(together, alone)


def test_threads_do_not_disturb_each_other():
    seeds, often = range(2000), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda seed: normal(seed, 0, 3, SHAPE), seeds))
    finally:
        sys.setswitchinterval(often)
    np.testing.assert_array_equal(found, [normal(seed, 0, 3, SHAPE) for seed in seeds])


@given(st.integers(0, MAX_SEED), st.integers(1, 2**60), st.integers(0, 2**40), st.integers(1, 50))
def test_few_words_are_those_of_numpy(key, first, stream, count):
    generator = np.random.Philox(key=key, counter=np.array([first - 1, stream, 0, 0], np.uint64))
    np.testing.assert_array_equal(philox.words(key, first, stream, count).ravel(), generator.random_raw(4 * count))


@pytest.mark.parametrize(("count", "here"), [(1, 1), (FEW_COUNTERS // 7, 1), (FEW_COUNTERS, 0)])
def test_a_threads_first_noise_is_computed_here_where_it_is_little_and_is_what_it_would_be_later(
    count, here, monkeypatch
):
    words = Mock(wraps=philox.words)
    monkeypatch.setattr(philox, "words", words)
    with ThreadPoolExecutor(1) as thread:
        first, later = (thread.submit(normal, 5, 7, count, SHAPE, 3).result() for _ in range(2))
    np.testing.assert_array_equal(first, later)
    assert words.call_count == here


def test_is_standard_normal():
    drawn = normal(7, 0, 20_000, SHAPE)
    assert abs(drawn.mean()) < 0.005
    assert abs(drawn.std() - 1) < 0.005
    correlation = np.corrcoef(drawn.reshape(len(drawn), -1), rowvar=False)
    assert np.abs(correlation - np.eye(49)).max() < 0.05


def test_seeds_and_streams_differ():
    assert not np.array_equal(normal(0, 0, 3, SHAPE), normal(1, 0, 3, SHAPE))
    assert not np.array_equal(normal(0, 0, 3, SHAPE), normal(0, 0, 3, SHAPE, stream=1))
