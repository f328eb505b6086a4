import numpy as np
import pytest

import runtime
from evaluation import classification
from evaluation.accuracy import measure_accuracy
from runtime import bayes
from runtime.datasets import LabelledImages


@pytest.fixture(scope="module")
def model():
    return runtime.load("MNIST")


@pytest.fixture(scope="module")
def data(model):
    labels = np.arange(100) % 10
    images = model.generate(labels, weight=1, seed=1)
    images[:, 10:16] = 0  # so that some are hard to read
    return LabelledImages(images, labels.astype(np.int64))


def test_accuracy_is_that_of_what_classify_says(model, data):
    posterior = model.classify(data.images)
    result = measure_accuracy(model, data)
    assert result["correct"] == (posterior.argmax(1) == data.labels).sum() < 100
    own = posterior[np.arange(100), data.labels]
    assert result["negative_log_posterior"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    whole = bayes.posterior(model.scores(data.images, "denoising"), np.array(model.bundle.prior), result["temperature"])
    assert abs(posterior - whole).max() > 1e-4  # stages make a difference


def test_before_temperature_is_the_posterior_of_the_scores_as_they_are(model, data):
    plain = bayes.posterior(model.scores(data.images, "ode"), np.array(model.bundle.prior))
    result = measure_accuracy(model, data, rule="ode")
    wanted = classification.calibration_error(plain, data.labels)
    assert result["calibration_error_before_temperature"] == pytest.approx(wanted, abs=1e-3)
