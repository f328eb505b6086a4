import numpy as np
import pytest

from evaluation.evaluator import Evaluator
from evaluation.figures import frechet_distance, nearest_rows, prdc
from evaluation.samples import Judge, Memorisation, matching_rows, stand_in
from runtime import datasets
from runtime.datasets import LabelledImages


def normal(count, mean, std, seed):
    return (mean + std * np.random.default_rng(seed).normal(size=(count, 4))).astype(np.float32)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    found = frechet_distance(normal(200_000, 0.0, 1.0, 0), normal(200_000, 0.5, 2.0, 1))
    assert found == pytest.approx(4 * 0.5**2 + 4 * (2 - 1) ** 2, rel=0.02)
    same = normal(1000, 0.0, 1.0, 0)
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-6)


def test_prdc_follows_its_definition():
    real, generated = normal(60, 0.0, 1.0, 0), normal(50, 0.3, 1.2, 1)

    def radius(points):
        distances = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
        return np.sort(distances, axis=1)[:, 5]

    between = np.linalg.norm(real[:, None].astype(float) - generated[None], axis=2)
    inside = between <= radius(real)[:, None]
    found = prdc(real, generated)
    assert found.precision == pytest.approx(inside.any(0).mean())
    assert found.density == pytest.approx(inside.sum(0).mean() / 5)
    assert found.recall == pytest.approx((between <= radius(generated)[None]).any(1).mean())
    assert found.coverage == pytest.approx(inside.any(1).mean())


def test_prdc_knows_collapse_from_variety():
    real = normal(500, 0.0, 1.0, 0)
    collapsed = prdc(real, np.repeat(real[:1], 500, axis=0) + normal(500, 0.0, 1e-3, 1))
    assert collapsed.precision > 0.9
    assert collapsed.recall < 0.1
    assert collapsed.coverage < 0.1
    assert prdc(real, normal(500, 0.0, 1.0, 2)).coverage > 0.9


def test_matching_rows_have_the_wanted_labels():
    available, wanted = np.array([0, 1, 2, 0, 1, 2, 0]), np.array([2, 0, 0, 1])
    rows = matching_rows(available, wanted)
    np.testing.assert_array_equal(available[rows], wanted)
    assert len(set(rows)) == len(rows)


def test_nearest_rows_are_those_of_a_search_through_all():
    generator = np.random.default_rng(0)
    images, pool = (generator.integers(0, 256, (count, 28, 28), np.uint8) for count in (5, 30))
    pool[7] = images[3]
    difference = (images[:, None].astype(float) - pool[None]) / 255
    distances = np.sqrt(np.square(difference).sum((2, 3)))
    rows, found = nearest_rows(images, pool)
    np.testing.assert_array_equal(rows, distances.argmin(1))
    np.testing.assert_allclose(found, distances.min(1), atol=1e-3)


def test_memorisation_tells_copies_from_new_images(root, mnist):
    test, train = (datasets.load(mnist, root, part).images for part in ("test", "train"))
    memorisation = Memorisation(test, train)
    assert memorisation(train[:50]) < 0.01
    assert memorisation(test[:60]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("which", ["first", "second"])
def test_the_evaluator_tells_digits_from_noise(root, mnist, which):
    test, train = (datasets.load(mnist, root, part) for part in ("test", "train"))
    few = LabelledImages(test.images[:60], test.labels[:60])
    noise = np.random.default_rng(0).integers(0, 256, few.images.shape, np.uint8)
    judge = Judge(Evaluator(mnist, which), few, train)
    good, bad = judge(stand_in(train, few.labels)), judge(LabelledImages(noise, few.labels))
    assert good["fidelity"] > 0.9
    assert good["frechet_multiple"] == pytest.approx(1)
    assert bad["fidelity"] < 0.5
    assert bad["frechet_multiple"] > 10
