"""The CNNs that judge: two of different architecture, and how they are trained. Needs torch."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.tracking import Tracker, untracked

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
BATCH_SIZE = 128
MAX_SHIFT = 2
FEATURES = 128


class PoolingNetwork(nn.Module):
    """Convolutions and max-pooling. Images (N, 1, 28, 28) in [0, 1] to features (N, 128) and class logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (1, 32, 48, 64)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
                for a, b in pairwise(widths)
            )
        )
        self.features = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 9, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(self.stages(images))
        return features, self.head(features)


class ResidualNetwork(nn.Module):
    """Strided convolutions, residual layers, mean over positions. The same in and out as PoolingNetwork."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Conv2d(1, 24, 5, stride=2, padding=2),
            nn.GELU(),
            Residual(24),
            nn.Conv2d(24, 64, 3, stride=2, padding=1),
            nn.GELU(),
            Residual(64),
            nn.Conv2d(64, FEATURES, 1),
            nn.GELU(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stages(images).mean((2, 3))
        return features, self.head(features)


class Residual(nn.Module):
    """Two normalised convolutions, added to what comes in: (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def fit(network: nn.Module, images: Tensor, labels: Tensor, steps: int, seed: int, track: Tracker = untracked) -> None:
    """Train on uint8 images (N, 28, 28), shifted at random, and labels (N,); leaves it in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for _ in track(range(steps), steps, "training a network"):
        rows = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        loss = F.cross_entropy(network(_shifted(images[rows][:, None].float() / 255, generator))[1], labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """A batch moved by up to MAX_SHIFT pixels each way."""
    down, right = (int(torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (), generator=generator)) for _ in range(2))
    return torch.roll(images, (down, right), (2, 3))
