"""A critic of patches that learns beside the autoencoder and makes its strokes crisp (arXiv 1703.10593, 2012.09841)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import parallel, snapshots
from training.blocks import channels_last


class PatchCritic(nn.Module):
    """Images (N, 1, 28, 28) to a score for each of 7x7 overlapping patches: positive is real."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            parallel.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Adversary:
    """Trains a critic on what it is shown, by the hinge loss, and says what a generator loses by it."""

    def __init__(self, device: torch.device, warm_up_steps: int, lr: float = 1e-3) -> None:
        """The critic is not asked, and learns nothing, for the first warm_up_steps calls."""
        self._critic = channels_last(PatchCritic(), device)
        self._optimiser = torch.optim.Adam(self._critic.parameters(), lr, betas=(0.5, 0.99))
        self._waiting = warm_up_steps

    def state_dict(self) -> dict[str, Any]:
        """All that the critic has learnt, to resume from."""
        learners = {"critic": self._critic.state_dict(), "optimiser": self._optimiser.state_dict()}
        return learners | {"waiting": self._waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._critic.load_state_dict(state["critic"])
        snapshots.load_optimiser(self._optimiser, state["optimiser"])
        self._waiting = state["waiting"]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def loss(self, real: Tensor, generated: Tensor) -> Tensor:
        """The generator's loss, a scalar with gradients to `generated` only, after the critic has learnt a step."""
        if self._waiting > 0:
            self._waiting -= 1
            return torch.zeros((), device=real.device)
        self._critic.requires_grad_(True)
        seen = F.relu(1 - self._critic(real)).mean() + F.relu(1 + self._critic(generated.detach())).mean()
        self._optimiser.zero_grad()
        seen.backward()
        parallel.average_gradients(self._critic.parameters())
        self._optimiser.step()
        self._critic.requires_grad_(False)
        return -self._critic(generated).mean()
