"""What all tests share: a root with few real images, and a bundle whose flow is a Gaussian in closed form."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Has no graph converted to ONNX that is equal to one before, by whichever worker."""
    from export import onnx_files
    from tests.conversions import remembered

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "conversions"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(onnx_files, "convert", remembered(onnx_files.convert, folder))
        yield


@pytest.fixture(scope="session")
def gaussian_bundle(tmp_path_factory: pytest.TempPathFactory, conversions: None) -> Path:
    """A bundle with random autoencoder weights and a flow that is exactly N(mean, variance) for every class."""
    from tests.gaussian import write_gaussian_bundle

    return write_gaussian_bundle(tmp_path_factory.mktemp("bundles") / "gaussian")


@pytest.fixture(scope="session")
def generator_bundle(tmp_path_factory: pytest.TempPathFactory, conversions: None) -> Path:
    """The same with an untrained generator."""
    from tests.gaussian import write_gaussian_bundle

    return write_gaussian_bundle(tmp_path_factory.mktemp("bundles") / "generator", with_generator=True)
