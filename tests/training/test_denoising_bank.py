import numpy as np
import torch

from training import denoising_bank

CLASSES = 3


def test_weights_find_the_informative_pair():
    """Errors of pair 0 tell the class, those of pair 1 are noise: the fit weighs them so."""
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=600)
    errors = generator.uniform(0.5, 1.5, size=(600, 2, 3))
    errors[np.arange(600), 0, labels] -= 0.3
    weights = denoising_bank.fit_weights(errors, labels, np.full(3, 1 / 3), np.array([0.5, 0.5]))
    assert weights[0] > 4 * weights[1]
    assert (weights >= 0).all()


def test_rivals_are_a_class_and_those_it_is_taken_for():
    labels = torch.arange(30) % CLASSES
    errors = np.random.default_rng(0).uniform(0.9, 1.1, size=(30, 4, CLASSES))
    errors[range(30), :, (labels.numpy() + 1) % CLASSES] -= 0.5  # so that 0 is taken for 1, 1 for 2 and 2 for 0
    found = denoising_bank.rivals(errors, labels, [1 / CLASSES] * CLASSES, denoising_bank.plain_bank(4), 2)
    assert found.tolist() == [[0, 1], [1, 2], [2, 0]]
