"""Every shipped model used once, by whatever versions run this: `make oldest` does it with the oldest ones allowed."""

import numpy as np

import runtime
from cli import cli

for name in runtime.shipped():
    model = runtime.load(name)
    labels = np.repeat(np.arange(len(model.classes)), 4)
    images = model.generate(labels)
    assert images.shape == (len(labels), 28, 28)
    assert images.max() > 127
    if model.bundle.only_generates:
        continue
    assert np.mean(model.classify(images).argmax(1) == labels) > 0.75, name  # c and C are alike
    assert np.isfinite(model.log_likelihood(images[:4])).all()  # exactly, of which each takes half a second
    assert model.generate_path([3]).shape[1:] == (model.bundle.defaults.steps + 1, 28, 28)
    assert model.reconstruct(images).shape == images.shape
cli(["info", "MNIST"])
