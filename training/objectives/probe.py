"""A small classifier of latents that learns beside the autoencoder, so that its latents keep the classes apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training import parallel
from training.engine import snapshots
from training.networks.blocks import perceptron

WIDTH = 64


class LatentProbe:
    """Learns to read classes from the latents it is shown, and says what an encoder loses by it."""

    def __init__(self, size: int, classes: int, device: torch.device, lr: float = 2e-3) -> None:
        """size: numbers in a latent."""
        self._classifier = perceptron(size, WIDTH, classes).to(device)
        self._optimiser = torch.optim.Adam(self._classifier.parameters(), lr)

    def state_dict(self) -> dict[str, Any]:
        """All that it has learnt, to resume from."""
        return {"classifier": self._classifier.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._classifier.load_state_dict(state["classifier"])
        snapshots.load_optimiser(self._optimiser, state["optimiser"])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def loss(self, latents: Tensor, labels: Tensor, training: bool) -> Tensor:
        """Cross-entropy of the classes (N,) in nats, a scalar with gradients to the latents only.

        In training the classifier first learns a step from them.
        """
        if training:
            self._classifier.requires_grad_(True)
            self._optimiser.zero_grad()
            F.cross_entropy(self._classifier(latents.detach()), labels).backward()
            parallel.average_gradients(self._classifier.parameters())
            self._optimiser.step()
            self._classifier.requires_grad_(False)
        return F.cross_entropy(self._classifier(latents), labels)
