import numpy as np
import pytest

from evaluation import classification

NAMES = ("a", "b", "c")
LABELS = np.array([0, 0, 0, 1, 1, 1])
FOUND = np.array([0, 1, 1, 1, 1, 0])
CONFUSION = classification.confusion_matrix(FOUND, LABELS, 3)


def test_confusions_count_classes_by_what_they_are_read_as():
    assert CONFUSION.tolist() == [[1, 2, 0], [1, 2, 0], [0, 0, 0]]
    assert classification.class_accuracies(CONFUSION, NAMES) == {
        "a": pytest.approx(1 / 3),
        "b": pytest.approx(2 / 3),
        "c": None,
    }
    assert classification.worst_confusions(CONFUSION, NAMES) == [
        {"class": "a", "read_as": "b", "images": 2},
        {"class": "b", "read_as": "a", "images": 1},
    ]


def test_calibration_error_of_known_confidences():
    """Half of those read with a confidence of 0.9 are right, and all of those with 0.5."""
    posterior = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5]], np.float32)
    found = classification.calibration_error(posterior, np.array([0, 1, 0, 0]))
    assert found == pytest.approx(0.5 * 0.4 + 0.5 * 0.5, abs=1e-6)


def test_calibrated_posteriors_have_little_error():
    generator = np.random.default_rng(0)
    chances = generator.dirichlet(np.ones(3), 20_000)
    labels = (generator.uniform(size=(20_000, 1)) > chances.cumsum(1)).sum(1)
    assert classification.calibration_error(chances.astype(np.float32), labels) < 0.015


def test_negative_log_posterior_is_finite_where_a_class_is_ruled_out():
    posterior = np.array([[1.0, 0.0]], np.float32)
    assert classification.negative_log_posterior(posterior, np.array([0])) == 0
    assert 50 < classification.negative_log_posterior(posterior, np.array([1])) < 100


def test_separation_is_the_area_under_the_curve():
    assert classification.separation(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert classification.separation(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0
    assert classification.separation(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
