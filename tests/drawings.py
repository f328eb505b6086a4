"""Images, and a flow that learns to draw them, for tests of finishing and of its losses."""

import torch
import torch.nn.functional as F
from torch import nn

from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.objectives.finishing import RandomDrawing
from training.options import SamplerOptions

CLASSES = 3
SAMPLER = SamplerOptions(steps=2, weight=1.5, guidance_start=0.5)


class Enlarger(nn.Module):
    """Stands for an autoencoder: pixels are what the latent has in their place."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(1, 1)

    def decode(self, z):
        return F.interpolate(z, scale_factor=4).sigmoid()


def averages(images):
    """Stands for a classifier's features: the image's averages in sixteen places."""
    return 10 * F.avg_pool2d(images, 7).flatten(1)


def problem():
    """Images that come of latents with a mean of 2, their labels, and a flow that knows nothing of them."""
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    images = (Enlarger().decode(2 + 0.3 * torch.randn(600, 1, 7, 7)) * 255).to(torch.uint8)
    return images, labels, RandomDrawing(Drawing(Flow(CLASSES, dim1=16, n_layers=1), Enlarger(), SAMPLER))


def learn(drawing, labels, loss, steps, lr=1e-2):
    optimiser = torch.optim.Adam(drawing.drawing.flow.parameters(), lr)
    for _ in range(steps):
        some = labels[torch.randperm(len(labels))[:64]]
        value = loss(drawing(some), some)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()


def strokes(count):
    """Images (N, 1, 28, 28) in [0, 1], as sharp as pixels can be, and the same blurred."""
    torch.manual_seed(0)
    sharp = F.interpolate((torch.rand(count, 1, 7, 7) < 0.3).float(), scale_factor=4)
    return sharp, F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
