import pytest
import torch

from tests.gaussian import gaussian_flow
from training.networks.autoencoders import AutoEncoder, VarAutoEncoder, sigmoids_of
from training.objectives.losses import (
    ReconstructionLoss,
    autoencoder_losses,
    flow_matching_loss,
    kl_divergence,
    sample_times,
)
from training.objectives.perception import FeatureNetwork
from training.options import AutoencoderObjective


def test_optimal_flow_has_the_least_loss():
    """E|u - v|^2 of Gaussian data is the mean over t of s^2 / V: what remains when v is right."""
    torch.manual_seed(0)
    flow = gaussian_flow()
    latents = flow.element_mean + flow.element_variance.sqrt() * torch.randn(40_000, *flow.latent_shape)
    labels = torch.zeros(len(latents), dtype=torch.long)
    with torch.no_grad():
        found = flow_matching_loss(flow, latents, labels, flow.null_label, 0.0)
    t = sample_times(100_000, torch.device("cpu")).view(-1, 1)
    variance = flow.element_variance.flatten()
    wanted = (variance / ((1 - t) ** 2 + t**2 * variance)).mean()
    assert found.item() == pytest.approx(wanted.item(), rel=0.01)


def test_kl_divergence_is_torchs():
    mean, log_variance = torch.randn(4, 1, 7, 7), torch.randn(4, 1, 7, 7)
    normal = torch.distributions.Normal
    wanted = (
        torch.distributions.kl_divergence(normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0)).flatten(1).sum(1)
    )
    torch.testing.assert_close(kl_divergence(mean, log_variance), wanted)


def test_times_keep_away_from_the_ends():
    t = sample_times(100_000, torch.device("cpu"))
    assert t.min() > 0
    assert t.max() < 1
    assert ((t < 0.05) | (t > 0.95)).float().mean() < 0.01


def test_labels_are_dropped_as_often_as_asked():
    seen = []

    def flow(x, t, labels):
        seen.append(labels)
        return x

    torch.manual_seed(0)
    flow_matching_loss(flow, torch.zeros(20_000, 1, 1, 1), torch.zeros(20_000, dtype=torch.long), 10, 0.1)
    assert set(seen[0].tolist()) == {0, 10}
    assert (seen[0] == 10).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_alpha_weighs_the_kl_divergence():
    torch.manual_seed(0)
    model, loss = VarAutoEncoder(dim1=4, dim2=4, n_layers=1).eval(), ReconstructionLoss(FeatureNetwork(10).features)
    images = torch.rand(4, 1, 28, 28)
    labels = torch.zeros(4, dtype=torch.long)
    without, doubled = (
        autoencoder_losses(model, images, labels, loss, AutoencoderObjective(alpha)) for alpha in (0.0, 2.0)
    )
    assert (doubled["loss"] - without["loss"]).item() == pytest.approx(2 * without["kl"].item(), rel=1e-4)
    plain = AutoEncoder(dim1=4, dim2=4, n_layers=1).eval()
    assert "kl" not in autoencoder_losses(plain, images, labels, loss, AutoencoderObjective(0.2))


def test_pixels_cost_the_cross_entropy_of_their_sigmoids():
    images, labels, logits = torch.rand(2, 1, 28, 28), torch.zeros(2).long(), torch.randn(2, 1, 28, 28)
    drawn, wanted = logits.sigmoid(), sigmoids_of(images)
    by_hand = -(wanted * drawn.log() + (1 - wanted) * (1 - drawn).log()).sum((1, 2, 3)).mean()
    found = ReconstructionLoss(FeatureNetwork(10).features)(logits, images, labels, training=False)
    torch.testing.assert_close(found["sigmoid_cross_entropy"], by_hand)
