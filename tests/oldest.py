"""Every shipped model used once, by whatever versions run this: `make oldest` does it with the oldest ones allowed."""

import numpy as np

import runtime
from cli import cli
from runtime.sampling import FEW

for name in runtime.shipped():
    model = runtime.load(name)
    images = model.generate([3, 1, 4])
    assert images.shape == (3, 28, 28)
    assert images.max() > 127
    if model.bundle.defaults.sampler == FEW:
        continue
    assert (model.classify(images).argmax(1) == [3, 1, 4]).all(), name
    assert np.isfinite(model.log_likelihood(images)).all()
    assert model.generate_path([3]).shape[1:] == (model.bundle.defaults.steps + 1, 28, 28)
    assert model.reconstruct(images).shape == images.shape
cli(["info", "MNIST"])
