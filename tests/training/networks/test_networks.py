import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.gaussian import gaussian_flow
from training.networks.autoencoders import AutoEncoder, VarAutoEncoder
from training.networks.flows import Flow
from training.networks.generators import Generator

MAX_PARAMETERS = 98_000
MAX_DECODER_MULTIPLY_ADDS = 1_000_000


@pytest.mark.parametrize("network", [AutoEncoder, VarAutoEncoder])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"dim4": 2}, {"latent_channels": 2, "dim1": 8, "dim2": 8, "n_heads": 2, "n_layers": 1}],
)
def test_autoencoders_keep_shapes_and_ranges(network, arguments):
    model = network(**arguments).eval()
    mean, log_variance = model.encode(torch.rand(3, 1, 28, 28))
    assert mean.shape == (3, *model.latent_shape)
    assert (log_variance is not None) == model.variational
    images = model.decode(mean)
    assert images.shape == (3, 1, 28, 28)
    assert 0 <= images.min() <= images.max() <= 1


def test_default_networks_are_within_budget():
    autoencoder, flow = VarAutoEncoder(), Flow()
    assert sum(p.numel() for model in (autoencoder, flow) for p in model.parameters()) <= MAX_PARAMETERS
    with FlopCounterMode(display=False) as counter:
        autoencoder.eval().decode(torch.zeros(1, *autoencoder.latent_shape))
    assert counter.get_total_flops() / 2 < MAX_DECODER_MULTIPLY_ADDS


def test_flow_without_correction_is_the_gaussian_closed_form():
    flow = gaussian_flow()
    x, t = torch.randn(5, *flow.latent_shape), torch.rand(5)
    time = t.view(-1, 1, 1, 1)
    mean, variance = flow.element_mean, flow.element_variance
    marginal = (1 - time) ** 2 + time**2 * variance
    wanted = mean + (time * variance - (1 - time)) / marginal * (x - time * mean)
    torch.testing.assert_close(flow(x, t, torch.arange(5)), wanted)


@pytest.mark.parametrize("arguments", [{}, {"backbone": "conv", "dim1": 8, "n_layers": 1}])
@torch.no_grad()
def test_a_flow_at_one_time_is_the_flow(arguments):
    flow = Flow(**arguments)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, labels = torch.randn(5, *flow.latent_shape), torch.tensor([3, 0, 10, 3, 9])
    times, none = torch.full((5,), 0.3), torch.full_like(labels, flow.null_label)
    conditional, unconditional = flow(x, times, labels).flatten(1), flow(x, times, none).flatten(1)
    torch.testing.assert_close(flow.at_time(0.3, labels)(x.flatten(1)), conditional)
    weight = torch.tensor([[1.0], [0.0], [2.0], [1.5], [3.0]])
    wanted = unconditional + weight * (conditional - unconditional)
    torch.testing.assert_close(flow.at_time(0.3, labels, weight)(x.flatten(1)), wanted)


def test_statistics_standardise():
    flow = Flow(latent_channels=2, dim1=8, n_layers=1)
    raw = torch.tensor([3.0, -1.0]).view(2, 1, 1) + torch.tensor([0.1, 5.0]).view(2, 1, 1) * torch.randn(2000, 2, 7, 7)
    flow.set_statistics(raw)
    z = flow.standardise(raw)
    np.testing.assert_allclose(z.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(z.std((0, 2, 3)), 1, atol=1e-4)
    torch.testing.assert_close(flow.unstandardise(z), raw, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"latent_channels": 2, "n_blocks": 0},
        {"numbers": 10, "frequencies": 5},
        {"numbers": 10, "frequencies": 5, "wave_numbers": 7},
        {"repeats": 3},
    ],
)
def test_generators_draw_images_that_depend_on_all_they_are_given(arguments):
    torch.manual_seed(0)
    model = Generator(**arguments).eval()
    torch.nn.init.normal_(model.backbone.last.weight)
    for block in model.backbone.blocks:
        torch.nn.init.normal_(block.modulation.weight)
    noise, labels, weight = torch.randn(2, *model.latent_shape), torch.tensor([1, 2]), torch.tensor([1.0, 2.0])
    images = model(noise, labels, weight)
    assert images.shape == (2, 1, 28, 28)
    assert 0 <= images.min() <= images.max() <= 1
    for others in ((-noise, labels, weight), (noise, labels.flip(0), weight), (noise, labels, weight.flip(0))):
        assert not torch.allclose(model(*others), images)
    torch.testing.assert_close(model(noise, labels, 5 * weight + 5), model(noise, labels, torch.full((2,), 3.0)))


def test_layers_repeat_with_the_same_weights_but_for_norms():
    once, often = (Generator(n_layers=1, n_blocks=0, dim3=5, repeats=repeats) for repeats in (1, 3))
    once, often = (sum(p.numel() for p in network.parameters()) for network in (once, often))
    assert often - once == 2 * 2 * 5


def test_a_generator_draws_the_same_of_noise_that_repeats_what_it_uses():
    model = Generator(numbers=10, frequencies=5).eval()
    noise, labels, weight = torch.randn(3, 1, 7, 7), torch.tensor([0, 4, 9]), torch.ones(3)
    repeated = model.repeated(noise)
    torch.testing.assert_close(model(repeated, labels, weight), model(noise, labels, weight))
    torch.testing.assert_close(repeated.flatten(1)[:, 40:], noise.flatten(1)[:, :9])


def test_numbers_of_waves_move_images_and_not_those_that_are_without_them():
    model = Generator(numbers=10, frequencies=5, wave_numbers=7).eval()
    torch.nn.init.normal_(model.backbone.last.weight)
    noise, labels, weight = torch.randn(3, 1, 7, 7), torch.tensor([0, 4, 9]), torch.ones(3)
    changed = noise.flatten(1).clone()
    changed[:, 17:] += 1
    torch.testing.assert_close(model(changed.view_as(noise), labels, weight), model(noise, labels, weight))
    changed[:, 16] += 1
    assert not torch.allclose(model(changed.view_as(noise), labels, weight), model(noise, labels, weight))
    without = model.without_waves(noise)
    torch.testing.assert_close(model.without_waves(changed.view_as(noise)), without)
    torch.nn.init.zeros_(model.wave_factors)
    torch.testing.assert_close(model(noise, labels, weight), model(without, labels, weight))


@pytest.mark.parametrize(
    "arguments",
    [
        {"numbers": 50, "frequencies": 2},
        {"numbers": 4},
        {"frequencies": 8, "numbers": 4},
        {"wave_numbers": 1},
        {"numbers": 40, "frequencies": 4, "wave_numbers": 10},
        {"numbers": 4, "frequencies": 2, "wave_numbers": 5},
        {"repeats": 0},
    ],
)
def test_generators_that_cant_be_are_refused(arguments):
    with pytest.raises(ValueError, match=r"numbers|repeat"):
        Generator(**arguments)


@torch.no_grad()
def test_retouching_adds_nothing_before_it_has_learnt_and_then_reaches_three_pixels():
    plain, retouched = AutoEncoder().eval(), AutoEncoder(dim4=3).eval()
    retouched.load_state_dict(plain.state_dict(), strict=False)
    latents = torch.randn(2, 1, 7, 7)
    torch.testing.assert_close(retouched.decode(latents), plain.decode(latents))
    layer = retouched.decoder[-1]
    torch.nn.init.ones_(layer.layers[-1].weight)
    spot = torch.zeros(1, 1, 28, 28)
    spot[0, 0, 14, 14] = 9.0
    seen = (layer(spot) - layer(torch.zeros_like(spot)))[0, 0].nonzero()
    assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([11, 11], [17, 17])
