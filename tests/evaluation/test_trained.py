import numpy as np

from evaluation import trained
from runtime import datasets
from runtime.datasets import LabelledImages


def test_a_network_tells_noise_from_digits(root, mnist, monkeypatch):
    monkeypatch.setattr(trained, "TWO_SAMPLE_STEPS", 30)
    test = datasets.load(mnist, root, "test")
    noise = np.random.default_rng(0).integers(0, 256, test.images.shape, np.uint8)
    assert trained.two_sample_accuracy(LabelledImages(noise, test.labels), test) > 0.9


def test_the_network_that_learns_most_tells_samples_from_real_images(root, mnist, monkeypatch):
    seeds, fit = [], trained.fit

    def fit_the_second(network, images, labels, steps, seed, track):
        seeds.append(seed)
        fit(network, images, labels, 30 if len(seeds) == 2 else 1, seed, track)

    monkeypatch.setattr(trained, "fit", fit_the_second)
    test = datasets.load(mnist, root, "test")
    noise = np.random.default_rng(0).integers(0, 256, test.images.shape, np.uint8)
    assert trained.two_sample_accuracy(LabelledImages(noise, test.labels), test, seed=1) > 0.9
    assert seeds == [3, 4, 5]


def test_a_network_learns_from_other_images_only(root, mnist, monkeypatch):
    monkeypatch.setattr(trained, "LEARNING_STEPS", 60)
    train, test = (datasets.load(mnist, root, part) for part in ("train", "test"))
    found = trained.learning_accuracy(train, test, 10)
    assert found > 0.6
    assert trained.learning_accuracy(train, test, 10) == found


def test_learning_labels_have_the_frequencies_of_training():
    found = trained.learning_labels(np.array([0, 0, 1]), 3000)
    assert np.bincount(found).tolist() == [2000, 1000]
