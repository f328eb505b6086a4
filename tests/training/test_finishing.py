import copy

import torch
import torch.nn.functional as F
from torch import nn

from training.finishing import FrechetLoss
from training.flows import Flow
from training.options import Sampling

CLASSES = 3
SAMPLER = Sampling(steps=2, weight=1.5, guidance_start=0.5)


class Enlarger(nn.Module):
    """Stands for an autoencoder: pixels are what the latent has in their place."""

    def decode(self, z):
        return F.interpolate(z, scale_factor=4).sigmoid()


class Averages(nn.Module):
    """Stands for a classifier: its features are the image's averages in sixteen places."""

    classes = CLASSES

    def embed(self, images):
        return 10 * F.avg_pool2d(images, 7).flatten(1)


def finishing():
    """A loss whose real images come of latents with a mean of 2, and a flow that knows nothing of them."""
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    images = (Enlarger().decode(2 + 0.3 * torch.randn(600, 1, 7, 7)) * 255).to(torch.uint8)
    return FrechetLoss(Enlarger(), Averages(), images, labels, SAMPLER), Flow(CLASSES, dim1=16, n_layers=1), labels


def test_finishing_pulls_samples_to_the_real_images():
    loss, flow, labels = finishing()
    loss.start(flow, labels)
    before = (loss._moments[0] - loss._mean).norm()
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(60):
        value = loss(flow, labels[torch.randperm(600)[:64]])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    loss.start(flow, labels)
    assert (loss._moments[0] - loss._mean).norm() < 0.3 * before


def test_finishing_goes_on_from_its_state():
    loss, flow, labels = finishing()
    loss.start(flow, labels)
    state = copy.deepcopy(loss.state_dict())
    torch.manual_seed(1)
    wanted = loss(flow, labels[:20])
    other, _, _ = finishing()
    other.load_state_dict(state)
    torch.manual_seed(1)
    assert other(flow, labels[:20]).item() == wanted.item()
