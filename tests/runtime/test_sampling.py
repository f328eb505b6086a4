import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from runtime import noise, sampling
from tests.gaussian import velocity

MEAN, STD = 0.7, 0.4


def exact_end(x0):
    """Where the ODE of N(MEAN, STD^2) carries x0: the straight map of Gaussians."""
    return MEAN + STD * x0


def solve(steps, x0, sampler="heun", **more):
    states = sampling.solve(sampler, lambda x, t: velocity(x, t, MEAN, STD), x0, sampling.time_grid(steps), **more)
    return sampling.last(states)


@pytest.mark.parametrize(("sampler", "least_order"), [("ode", 0.9), ("heun", 1.7), ("dpmpp", 1.4)])
def test_samplers_reach_the_closed_form_at_their_order(sampler, least_order):
    x0 = np.linspace(-3, 3, 61)
    errors = [np.abs(solve(steps, x0, sampler) - exact_end(x0)).max() for steps in (40, 80, 160, 320)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert np.mean(orders) > least_order
    assert errors[-1] < (1e-2 if sampler == "ode" else 1e-3)


@pytest.mark.parametrize("sampler", sampling.SOLVERS)
def test_one_evaluation_a_step_but_for_heun(sampler):
    asked = []
    states = sampling.solve(sampler, lambda x, t: asked.append(t) or 0 * x, np.zeros(2), sampling.time_grid(4))
    assert len(list(states)) == 5
    assert len(asked) == (7 if sampler == "heun" else 4)


@pytest.mark.parametrize("sampler", [sampling.FEW, "rk4"])
def test_what_is_no_solver_is_refused(sampler):
    with pytest.raises(ValueError, match="heun"):
        sampling.solve(sampler, lambda x, t: x, np.zeros(2), sampling.time_grid(4))


@pytest.mark.parametrize(("sampler", "diffusion"), [("heun", 0.0), ("heun", 0.5), ("heun", 1.5), ("sde", 1.0)])
def test_sde_has_the_marginals_of_the_ode(sampler, diffusion):
    def draw(stream):
        return noise.normal(3, 0, 40_000, (2,), stream).astype(np.float64)

    steps = 60 if sampler == "heun" else 400
    end = solve(steps, draw(0), sampler, diffusion=diffusion, noise=lambda step: draw(step + 1))
    assert end.mean() == pytest.approx(MEAN, abs=0.01)
    assert end.std() == pytest.approx(STD, rel=0.02)


def test_sde_forgets_its_start():
    x0 = noise.normal(3, 0, 10_000, (1,)).astype(np.float64)
    end = solve(60, x0, diffusion=3.0, noise=lambda step: noise.normal(3, 0, 10_000, (1,), step + 1))
    assert np.corrcoef(x0.ravel(), end.ravel())[0, 1] < 0.5
    assert np.corrcoef(x0.ravel(), solve(60, x0).ravel())[0, 1] > 0.999


def test_noise_scales_add_up():
    whole = sampling.noise_scale(0, 1, 1.5) ** 2
    assert sum(sampling.noise_scale(a, b, 1.5) ** 2 for a, b in ((0, 0.3), (0.3, 0.9), (0.9, 1))) == pytest.approx(
        whole
    )


@pytest.mark.parametrize("sampler", sampling.SOLVERS)
def test_torch_and_numpy_pass_alike(sampler):
    x0 = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(solve(7, torch.from_numpy(x0), sampler).numpy(), solve(7, x0, sampler), rtol=1e-12)


def test_guidance():
    conditional, unconditional = np.array([2.0]), np.array([1.0])
    assert sampling.guided(conditional, unconditional, 0) == 1
    assert sampling.guided(conditional, unconditional, 1) == 2
    assert sampling.guided(conditional, unconditional, 4) == 5


@pytest.mark.parametrize("sampler", sampling.STOCHASTIC)
def test_diffusion_needs_noise(sampler):
    with pytest.raises(ValueError, match="needs noise"):
        solve(4, np.zeros(1), sampler, diffusion=1.0)


def test_diffusion_of_samplers():
    assert sampling.diffusion_of("sde", None) == 1
    assert sampling.diffusion_of("sde", 0.5) == sampling.diffusion_of("heun", 0.5) == 0.5
    assert sampling.diffusion_of("sde", 0.0) == sampling.diffusion_of("heun", None) == 0
    assert sampling.diffusion_of("ode", None) == sampling.diffusion_of("ode", 0.0) == 0
    with pytest.raises(ValueError, match="sde or heun"):
        sampling.diffusion_of("dpmpp", 1.0)


def test_diffusion_asks_for_a_solver_that_has_it():
    assert (
        sampling.choose({"diffusion": 0.5}, "ode", "ode")
        == sampling.choose({"diffusion": 0.5}, "few", "dpmpp")
        == "sde"
    )
    assert sampling.choose({"diffusion": 0.5}, "heun", "heun") == "heun"
    assert sampling.choose({"diffusion": 0.0}, "ode", "ode") == sampling.choose({}, "ode", "ode") == "ode"
    assert sampling.choose({"diffusion": 0.5, "sampler": "ode"}, "ode", "ode") == "ode"  # which is refused
