"""What all tests share: a root with few real images, and a bundle whose flow is a Gaussian in closed form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side

from runtime.datasets import Dataset, find

ROOT = Path(__file__).resolve().parent / "data"


@pytest.fixture(scope="session")
def root() -> Path:
    """A root with 240 training and 120 test images of each data set."""
    return ROOT


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return find("MNIST")


@pytest.fixture(scope="session")
def gaussian_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random autoencoder weights and a flow that is exactly N(mean, variance) for every class."""
    from tests.gaussian import write_gaussian_bundle

    return write_gaussian_bundle(tmp_path_factory.mktemp("bundles") / "gaussian")


@pytest.fixture(scope="session")
def generator_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an untrained generator."""
    from tests.gaussian import write_gaussian_bundle

    return write_gaussian_bundle(tmp_path_factory.mktemp("bundles") / "generator", with_generator=True)
