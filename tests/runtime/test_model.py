import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime
from runtime import chunks, datasets
from runtime.errors import ProviderError


@pytest.fixture(scope="session")
def gaussian(gaussian_bundle):
    return runtime.load(gaussian_bundle)


@pytest.fixture(scope="session")
def shipped():
    return runtime.load("MNIST")


@pytest.fixture(scope="session")
def few(generator_bundle):
    return runtime.load(generator_bundle)


LABELS = np.arange(20) % 10


def test_a_model_says_what_it_is(shipped):
    assert repr(shipped).startswith("Model('MNIST', SessionSettings(threads=")
    assert len(repr(shipped.bundle)) < 2000


def test_shapes_and_dtypes(shipped):
    images = shipped.generate([3, 1, 4], seed=0)
    assert (images.dtype, images.shape) == (np.uint8, (3, 28, 28))
    posterior = shipped.classify(images)
    assert (posterior.dtype, posterior.shape) == (np.float32, (3, 10))
    np.testing.assert_allclose(posterior.sum(1), 1, rtol=1e-5)
    scores = shipped.log_likelihood(images)
    assert (scores.dtype, scores.shape) == (np.float32, (3, 10))
    latents = shipped.encode(images)
    assert (latents.dtype, latents.shape) == (np.float32, (3, *shipped.latent_shape))
    assert (shipped.decode(latents).dtype, shipped.decode(latents).shape) == (np.uint8, (3, 28, 28))


def test_nothing_in_nothing_out(shipped):
    none = np.empty((0, 28, 28), np.uint8)
    assert shipped.generate([]).shape == (0, 28, 28)
    assert shipped.classify(none).shape == (0, 10)
    assert shipped.log_likelihood(none).shape == (0, 10)
    assert shipped.encode(none).shape == (0, *shipped.latent_shape)
    assert list(shipped.stream(0)) == []


def test_likelihood_is_exact_for_a_gaussian_flow(gaussian):
    from tests.gaussian import gaussian_flow

    flow = gaussian_flow()
    mean, variance = flow.element_mean.numpy(), flow.element_variance.numpy()
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    z = gaussian.encode(images)
    exact = -0.5 * ((z - mean) ** 2 / variance + np.log(2 * math.pi * variance)).sum((1, 2, 3))
    found = gaussian.log_likelihood(images)
    np.testing.assert_allclose(found, np.repeat(exact[:, None], 10, axis=1), rtol=2e-3)


def test_gaussian_flow_generates_its_gaussian(gaussian):
    from tests.gaussian import gaussian_flow

    flow = gaussian_flow()
    z = gaussian.sample_latents(np.zeros(4000, np.int64), seed=1, steps=20)
    np.testing.assert_allclose(z.mean(0), flow.element_mean.numpy(), atol=0.08)
    np.testing.assert_allclose(z.var(0), flow.element_variance.numpy(), rtol=0.15)


@pytest.mark.parametrize(
    "settings",
    [{}, {"diffusion": 1.0, "steps": 4}, {"weight": 1.0}, {"weight": 3.0, "guidance_start": 0.4}, {"sampler": "sde"}],
)
def test_an_image_is_the_same_whatever_the_batch(shipped, settings):
    together = shipped.generate(LABELS, seed=5, **settings)
    alone = np.concatenate([shipped.generate([label], seed=5, first=i, **settings) for i, label in enumerate(LABELS)])
    np.testing.assert_array_equal(together, alone)


def test_an_image_is_the_same_whatever_the_chunk(shipped, monkeypatch):
    together = shipped.generate(LABELS, seed=5)
    monkeypatch.setattr(chunks, "CHUNK", 7)
    monkeypatch.setattr(chunks, "WORTHWHILE", 1)
    np.testing.assert_array_equal(together, shipped.generate(LABELS, seed=5))


def test_a_stream_may_go_on_where_another_ended(shipped):
    whole = np.concatenate(list(shipped.stream(9, [2, 7, 1], seed=9)))
    later = np.concatenate(list(shipped.stream(5, [2, 7, 1], seed=9, first=np.uint8(4), batch_size=2)))
    np.testing.assert_array_equal(later, whole[4:])


@settings(max_examples=10, deadline=None)
@given(num=st.integers(0, 40), batch_size=st.integers(1, 50))
def test_stream_is_generate(shipped, num, batch_size):
    batches = list(shipped.stream(num, [2, 7, 1], seed=9, batch_size=batch_size, steps=2))
    assert all(len(batch) <= batch_size for batch in batches)
    found = np.concatenate([np.empty((0, 28, 28), np.uint8), *batches])
    np.testing.assert_array_equal(found, shipped.generate(np.resize([2, 7, 1], num), seed=9, steps=2))


def test_threads_share_a_model(shipped):
    fresh = runtime.load("MNIST")
    alone = shipped.generate(LABELS, seed=3)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: fresh.generate(LABELS, seed=3), range(12)):
            np.testing.assert_array_equal(found, alone)


def test_more_threads_give_the_same(shipped):
    labels = np.arange(70) % 10
    one, three = (runtime.load("MNIST", threads=threads) for threads in (1, 3))
    images = one.generate(labels)
    np.testing.assert_array_equal(three.generate(labels), images)
    np.testing.assert_array_equal(three.generate_path(labels, steps=2), one.generate_path(labels, steps=2))
    np.testing.assert_allclose(three.classify(images), one.classify(images), atol=1e-5)
    np.testing.assert_allclose(three.log_density(images), one.log_density(images), atol=1e-3)


def test_seeds_differ(shipped):
    assert not np.array_equal(shipped.generate(LABELS, seed=0), shipped.generate(LABELS, seed=1))


def test_float_images_are_taken(shipped):
    images = shipped.generate(LABELS)
    np.testing.assert_allclose(shipped.encode(images / 255.0), shipped.encode(images), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [10]}, "0 to 9"),
        ({"labels": [-1]}, "0 to 9"),
        ({"labels": [1.5]}, "whole"),
        ({"labels": 3}, "whole"),
        ({"labels": ["3"]}, "whole"),
        ({"labels": [1], "seed": -1}, "seed"),
        ({"labels": [1], "seed": 2**64}, "seed"),
        ({"labels": [1], "seed": 0.5}, "seed"),
        ({"labels": [1], "steps": 0}, "steps"),
        ({"labels": [1], "steps": 1001}, "steps"),
        ({"labels": [1], "weight": math.nan}, "weight"),
        ({"labels": [1], "weight": -0.1}, "weight"),
        ({"labels": [1], "weight": math.inf}, "weight"),
        ({"labels": [1], "weight": 10**400}, "weight"),
        ({"labels": [1], "weight": True}, "weight"),
        ({"labels": [1], "weight": "2"}, "weight"),
        ({"labels": [1], "diffusion": math.nan}, "diffusion"),
        ({"labels": [1], "diffusion": 10.1}, "diffusion"),
        ({"labels": [1], "guidance_start": 1.1}, "guidance_start"),
        ({"labels": [1], "first": -1}, "first"),
        ({"labels": [1], "sampler": "rk4"}, "sampler"),
        ({"labels": [1], "sampler": "ode", "diffusion": 1.0}, "sde or heun"),
    ],
)
def test_wrong_arguments_of_generate_are_refused(gaussian, arguments, message):
    with pytest.raises(ValueError, match=message):
        gaussian.generate(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"seed": 0}, {"seed": 2**64 - 1}, {"steps": 1}, {"weight": 0}, {"weight": 100}, {"diffusion": 10}]
)
def test_ends_of_ranges_are_taken(gaussian, arguments):
    assert gaussian.generate([0, 9], **{"steps": 2, **arguments}).shape == (2, 28, 28)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((28, 28), np.uint8),
        np.zeros((1, 28, 27), np.uint8),
        np.zeros((1, 28, 28), np.int64),
        np.eye(28, dtype=np.uint8)[None],
        np.full((1, 28, 28), 1.01),
        np.full((1, 28, 28), -0.01),
        np.full((1, 28, 28), np.nan),
    ],
)
def test_wrong_images_are_refused(gaussian, images):
    with pytest.raises(ValueError, match="images"):
        gaussian.classify(images)


def test_wrong_latents_are_refused(gaussian):
    with pytest.raises(ValueError, match="latents"):
        gaussian.decode(np.zeros((1, 49)))
    with pytest.raises(ValueError, match="NaN"):
        gaussian.decode(np.full((1, 1, 7, 7), np.nan))


def test_latents_that_no_picture_has_are_refused(shipped):
    with pytest.raises(ValueError, match="too large"):
        shipped.decode(np.full((1, 1, 7, 7), 3e38))


def test_wrong_streams_and_rules_are_refused(gaussian):
    for refused, arguments in (
        ("num", {"num": -1}),
        ("batch_size", {"num": 1, "batch_size": 0}),
        ("labels", {"num": 1, "labels": []}),
        ("num", {"num": 1.5}),
        ("num", {"num": True}),
        ("batch_size", {"num": 1, "batch_size": 1.5}),
        ("first", {"num": 300, "first": 2**40}),
        ("first", {"num": 1, "first": "a"}),
        ("weight", {"num": 1, "weight": math.nan}),
    ):
        with pytest.raises(ValueError, match=refused):
            gaussian.stream(**arguments)
    with pytest.raises(ValueError, match="rule"):
        gaussian.classify(np.zeros((1, 28, 28), np.uint8), rule="guess")
    with pytest.raises(ValueError, match="rule"):
        gaussian.classify(np.zeros((1, 28, 28), np.uint8), rule="")


def test_missing_providers_list_those_there(gaussian_bundle):
    with pytest.raises(ProviderError, match="CPUExecutionProvider"):
        runtime.load(gaussian_bundle, providers=["NoExecutionProvider"])
    for threads in (0, 1.5, True, 10**9):
        with pytest.raises(ValueError, match="threads"):
            runtime.load(gaussian_bundle, threads=threads)
    with pytest.raises(ValueError, match="list"):
        runtime.load(gaussian_bundle, providers="CPUExecutionProvider")


def test_guidance_counts_from_its_start_on(shipped):
    plain = shipped.sample_latents(LABELS, weight=1.0)
    np.testing.assert_array_equal(shipped.sample_latents(LABELS, weight=3.0, guidance_start=1.0), plain)
    late, whole = (shipped.sample_latents(LABELS, weight=3.0, guidance_start=start) for start in (0.5, 0.0))
    assert 0 < np.abs(late - plain).mean() < np.abs(whole - plain).mean()


def test_a_path_goes_from_noise_to_the_image(shipped):
    path = shipped.generate_path(LABELS, seed=3, steps=4)
    assert shipped.generate_path([], steps=4).shape == (0, 5, 28, 28)
    by_sde = shipped.generate_path(LABELS, seed=3, sampler="sde", diffusion=0.5)
    np.testing.assert_array_equal(shipped.generate_path(LABELS, seed=3, diffusion=0.5), by_sde)
    assert path.shape == (len(LABELS), 5, 28, 28)
    assert np.abs(path[:, -1].astype(int) - shipped.generate(LABELS, seed=3, steps=4)).max() <= 1


def test_noise_is_unlike_the_training_data(shipped, root):
    test = datasets.load(datasets.find("MNIST"), root, "test").images
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    known, strange = shipped.log_density(test), shipped.log_density(noise)
    assert known.min() > strange.max()
    assert shipped.is_unlike_training(known).mean() < 0.1
    assert shipped.is_unlike_training(strange).all()


def test_the_default_settings_by_name_give_the_default_images(shipped):
    defaults = shipped.bundle.defaults
    named = {"sampler": defaults.solver, "weight": defaults.weight}
    np.testing.assert_array_equal(shipped.generate(LABELS, **named), shipped.generate(LABELS))


def test_one_call_draws_what_the_steps_draw(gaussian):
    whole = gaussian.generate(LABELS, seed=4).astype(int)
    latents = gaussian.sample_latents(LABELS, seed=4)
    assert np.abs(whole - gaussian.decode(latents)).max() <= 1


def test_one_call_reads_what_the_rule_reads(gaussian):
    images = np.random.default_rng(3).integers(0, 256, (5, 28, 28), np.uint8)
    scores = gaussian.scores(images, "denoising") / gaussian.bundle.classifier.temperatures["denoising"]
    expected = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(gaussian.classify(images), expected / expected.sum(1, keepdims=True), atol=1e-3)


def test_floats_are_read_as_the_grey_levels_that_they_are_nearest_to(shipped):
    images = shipped.generate([3, 1, 4], seed=0)
    for floats in (images / 255, (images / 255).astype(np.float32), np.clip(images / 255 + 0.001, 0, 1)):
        np.testing.assert_array_equal(shipped.classify(floats), shipped.classify(images))


def test_a_generator_draws_by_default_and_a_solver_where_steps_are_given(few):
    assert few.bundle.defaults.sampler == "few"
    drawn = few.generate(LABELS, seed=1)
    np.testing.assert_array_equal(few.generate(LABELS, seed=1, sampler="few"), drawn)
    solved = few.generate(LABELS, seed=1, steps=3)
    assert not np.array_equal(solved, drawn)
    np.testing.assert_array_equal(few.generate(LABELS, seed=1, sampler="heun", steps=3), solved)
    assert few.generate_path([1], steps=2).shape == (1, 3, 28, 28)
    assert not np.array_equal(few.generate(LABELS, weight=0.5), few.generate(LABELS, weight=3.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "few", "steps": 2}, "steps goes with"),
        ({"sampler": "few", "diffusion": 0.0}, "diffusion goes with"),
        ({"weight": 3.1}, "weight is 0.5 to 3.0"),
        ({"weight": 0.4}, "weight is 0.5 to 3.0"),
    ],
)
def test_a_generator_has_a_weight_within_its_range_and_nothing_else(few, settings, message):
    with pytest.raises(ValueError, match=message):
        few.generate(LABELS, **settings)


@pytest.mark.parametrize("draw", ["sample_latents", "generate_path"])
def test_a_generator_has_no_latents_and_no_steps(few, draw):
    with pytest.raises(ValueError, match="neither latents nor steps"):
        getattr(few, draw)([], sampler="few")


def test_without_a_generator_there_is_no_sampler_few(gaussian):
    with pytest.raises(ValueError, match="no generator"):
        gaussian.generate(LABELS, sampler="few")
