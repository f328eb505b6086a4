"""A perceptron that reads classes from latents: which of them are worth asking the flow about."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.tracking import Tracker, untracked
from training import parallel
from training.networks.blocks import perceptron

EPOCHS, BATCH, RATE = 40, 256, 5e-3


class Sieve(nn.Module):
    """Standardised latents (N, C, 7, 7) to class logits (N, classes).

    It learns from latents alone, once and before the flow that it is part of, and is frozen then.
    """

    def __init__(self, size: int, width: int, classes: int) -> None:
        """size: numbers in a latent; width: of the hidden layer."""
        super().__init__()
        self.layers = perceptron(size, width, classes)
        self.requires_grad_(False)

    def forward(self, latents: Tensor) -> Tensor:
        found: Tensor = self.layers(latents)
        return found

    def learn(self, latents: Tensor, labels: Tensor, track: Tracker = untracked) -> None:
        """Learn from standardised latents and their labels (N,), on the device where all of it lies."""
        self.requires_grad_(True)
        steps = max(1, len(latents) // BATCH) * EPOCHS
        optimiser = torch.optim.Adam(self.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in track(range(steps), steps, "sieve"):
            rows = torch.randint(len(latents), (BATCH,), device=latents.device)
            loss = F.cross_entropy(self(latents[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.requires_grad_(False)
        parallel.same(self.state_dict())
