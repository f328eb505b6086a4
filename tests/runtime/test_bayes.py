import numpy as np
import pytest

from runtime import bayes, noise
from tests.gaussian import divergence, log_density, velocity

SIZE = 9
MEANS = np.array([-1.0, 0.8])
STDS = np.array([0.6, 0.9])


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-0.5, 2.0)])
def test_likelihood_is_exact_on_gaussian_data(mean, std):
    z = mean + std * np.random.default_rng(0).normal(size=(50, SIZE))
    found = bayes.log_density(
        lambda x, t: (velocity(x, t, mean, std), np.full(len(x), divergence(t, std, SIZE))), z, steps=40
    )
    np.testing.assert_allclose(found, log_density(z, mean, std), atol=1e-4)


def test_noise_norm_lacks_the_divergence():
    z = np.random.default_rng(0).normal(size=(5, SIZE))
    found = bayes.log_density(lambda x, t: (velocity(x, t, 0.0, 0.5), np.zeros(len(x))), z, steps=40)
    np.testing.assert_allclose(found, log_density(z / 0.5, 0.0, 1.0), atol=1e-3)


def two_gaussians(count):
    generator = np.random.default_rng(1)
    labels = generator.integers(2, size=count)
    z = MEANS[labels, None] * 0.3 + STDS[labels, None] * generator.normal(size=(count, SIZE))
    exact = np.stack([log_density(z, MEANS[c] * 0.3, STDS[c]) for c in range(2)], axis=1)
    return z, exact


def test_posterior_of_two_gaussians():
    z, exact = two_gaussians(200)
    scores = np.stack(
        [
            bayes.log_density(
                lambda x, t, c=c: (
                    velocity(x, t, 0.3 * MEANS[c], STDS[c]),
                    np.full(len(x), divergence(t, STDS[c], SIZE)),
                ),
                z,
                steps=30,
            )
            for c in range(2)
        ],
        axis=1,
    )
    prior = np.array([0.25, 0.75])
    joint = np.exp(exact) * prior
    np.testing.assert_allclose(bayes.posterior(scores, prior), joint / joint.sum(1, keepdims=True), atol=1e-4)


def labelled_velocity(x, t, labels):
    shape = (-1, *[1] * (x.ndim - 1))
    return velocity(x, t.reshape(shape), (0.3 * MEANS)[labels].reshape(shape), STDS[labels].reshape(shape))


def test_denoising_errors_follow_their_definition():
    z = np.random.default_rng(2).normal(size=(4, SIZE))
    times = np.array([0.2, 0.5, 0.9])
    shared = noise.normal(0, 0, 3, (SIZE,))
    found = bayes.denoising_errors(labelled_velocity, z, times, shared, classes=2)
    assert found.shape == (4, 3, 2)
    for n in range(4):
        for k in range(3):
            for c in range(2):
                x = (1 - times[k]) * shared[k] + times[k] * z[n]
                wanted = np.square(velocity(x, times[k], 0.3 * MEANS[c], STDS[c]) - (z[n] - shared[k])).mean()
                assert found[n, k, c] == pytest.approx(wanted)


def test_denoising_gives_the_log_density_of_a_gaussian():
    """With weights t / (1 - t), squared errors integrate to -log p(z) up to a constant (arXiv 2107.00630, eq. 13)."""
    count, std = 4000, 0.7
    times = (np.arange(count) + 0.5) / count * 0.998 + 0.001
    shared = noise.normal(0, 0, count, (SIZE,)).astype(np.float64)
    z = np.stack([np.full(SIZE, 0.2), np.full(SIZE, 1.0)])
    errors = bayes.denoising_errors(
        lambda x, t, labels: velocity(x, t.reshape(-1, 1), 0.2, std), z, times, shared, classes=1
    )
    weights = SIZE * 0.998 / count * times / (1 - times)
    found = bayes.denoising_scores(errors, weights)[:, 0]
    exact = log_density(z, 0.2, std)
    assert found[0] - found[1] == pytest.approx(exact[0] - exact[1], rel=0.1)


def test_denoising_classifies_two_gaussians():
    z, exact = two_gaussians(400)
    times = np.linspace(0.05, 0.95, 200)
    errors = bayes.denoising_errors(labelled_velocity, z, times, noise.normal(0, 0, 200, (SIZE,)), classes=2)
    found = bayes.denoising_scores(errors, times / (1 - times)).argmax(1)
    assert (found == exact.argmax(1)).mean() > 0.93


def test_posterior_rows_sum_to_one_whatever_the_scores():
    scores = np.array([[-1e6, 0.0, 3.0], [5.0, 5.0, 5.0], [1e8, -1e8, 0.0]])
    found = bayes.posterior(scores, np.array([0.2, 0.3, 0.5]), temperature=2.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.2, 0.3, 0.5], rtol=1e-6)
