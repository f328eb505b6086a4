"""Features that say how alike images look: yardsticks of reconstruction, and of finishing."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.tracking import Tracker, untracked
from training import parallel
from training.engine.augmentation import augmented
from training.networks.blocks import channels_last, conv_norm_relu
from training.options import cosine

FEATURE_EPOCHS = 2
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2  # of readers
MAX_SHIFT = 2  # of the images from which they learn thoroughly
Reader = TypeVar("Reader", bound=nn.Module)


class FeatureNetwork(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to class logits; `features` gives its three layers' activations."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        width = 12
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(1, width, 3, padding=1),
                nn.Conv2d(width, 2 * width, 3, padding=1),
                nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            ]
        )
        self.head = nn.Linear(4 * width * 49, classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations at 28x28, 14x14 and 7x7."""
        found: list[Tensor] = []
        x = images
        for layer in self.layers:
            if found:
                x = F.max_pool2d(x, 2)
            x = F.relu(layer(x))
            found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)[-1].flatten(1))

    def learn(self, images: Tensor, labels: Tensor, batch_size: int, track: Tracker = untracked) -> None:
        """Learn from what train_reader takes, FEATURE_EPOCHS times all of it."""
        train_reader(self, images, labels, FEATURE_EPOCHS * len(images) // batch_size, batch_size, track)


class EmbeddingNetwork(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to class logits; `embed` gives the 128 features before them.

    pooled: whether these are means over positions, which do not say where in the image something is.
    """

    def __init__(self, classes: int = 10, pooled: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.embed = nn.Sequential(
            conv_norm_relu(1, 24, 5, stride=2),
            conv_norm_relu(24, 48, 3),
            nn.MaxPool2d(2),
            conv_norm_relu(48, 64, 3),
            *(
                [conv_norm_relu(64, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
                if pooled
                else [nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU()]
            ),
        )
        self.head = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images))


class FineDetail(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to features (N, 39) of what classifiers learn to overlook; nothing is trained.

    They say how strong each pattern of 4x4 pixels is in an image (all of the DCT-II but the mean; its mean magnitude
    and root mean square) and how frequent nine grey levels are, each standardised to what real images have.
    """

    SIZE, LEVELS = 4, 9
    LEAST, LEAST_MEAN = 1e-4, 1e-5  # power, lest the gradient of a root has no bound where there is no pattern

    def __init__(self) -> None:
        """Its features are standardised after `set_statistics`."""
        super().__init__()
        index = torch.arange(self.SIZE)
        waves = torch.cos(math.pi / self.SIZE * index[:, None] * (index + 0.5)) * (2 / self.SIZE) ** 0.5
        waves[0] *= 0.5**0.5
        self.register_buffer("patterns", torch.einsum("ai,bj->abij", waves, waves).flatten(0, 1)[1:, None])
        self.register_buffer("levels", torch.linspace(0, 1, self.LEVELS))
        count = 2 * (self.SIZE**2 - 1) + self.LEVELS
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))

    patterns: Tensor
    levels: Tensor
    mean: Tensor
    deviation: Tensor

    def set_statistics(self, measured: Tensor) -> None:
        """Standardise by mean and deviation of what was measured of real images, (N, 39)."""
        self.mean, self.deviation = measured.mean(0), measured.std(0).clamp_min(1e-6)

    def forward(self, images: Tensor) -> Tensor:
        return self.standardise(self.measured(images))

    def measured(self, images: Tensor) -> Tensor:
        """What the features are before they are standardised, (N, 39)."""
        power = F.conv2d(images, self.patterns).square()
        strength = (power + self.LEAST).sqrt().mean((2, 3)), (power.mean((2, 3)) + self.LEAST_MEAN).sqrt()
        near = (1 - (self.LEVELS - 1) * (images.flatten(1)[..., None] - self.levels).abs()).clamp_min(0)
        return torch.cat([*strength, near.mean(1)], dim=1)

    def standardise(self, measured: Tensor) -> Tensor:
        """The features (N, 39), of what was measured."""
        return (measured - self.mean) / self.deviation


def frozen(network: Reader, device: torch.device) -> Reader:
    """A network of convolutions moved to a device, from which one learns, and which learns nothing."""
    return channels_last(network, device).eval().requires_grad_(False)


def train_reader(
    network: Reader,
    images: Tensor,
    labels: Tensor,
    steps: int,
    batch_size: int,
    track: Tracker = untracked,
    thorough: bool = False,
) -> Reader:
    """Train on uint8 images (N, 1, 28, 28) for `steps` steps; returns it frozen, on the images' device.

    thorough: on images moved by up to MAX_SHIFT pixels, with decayed weights, at a rate that falls to 0 along a cosine.
    """
    shift = MAX_SHIFT if thorough else 0
    network = channels_last(network, images.device).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY if thorough else 0)
    with parallel.alone():
        for step in track(range(steps), steps, "features"):
            chosen = torch.randint(len(images), (batch_size,), device=images.device)
            if thorough:
                optimiser.param_groups[0]["lr"] = LEARNING_RATE * cosine(step / steps)
            loss = F.cross_entropy(network(augmented(images[chosen], shift)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    parallel.same(network.state_dict())
    return frozen(network, images.device)
