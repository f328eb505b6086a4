"""Critics that learn beside a generator to tell its images from real ones, and say what it loses by that."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import parallel
from training.engine import snapshots
from training.networks.blocks import channels_last

MAX_SHIFT = 2


class Critic(nn.Module):
    """Scores images (N, 1, 28, 28) in [0, 1] of labels (N,)."""

    def learning_loss(self, real: Tensor, generated: Tensor, labels: Tensor) -> Tensor:
        """What the critic minimises, a scalar; both sides have the same labels."""
        raise NotImplementedError

    def generator_loss(self, generated: Tensor, labels: Tensor) -> Tensor:
        """What the generator minimises, a scalar."""
        raise NotImplementedError


class PatchCritic(Critic):
    """Scores each of 7x7 overlapping patches, whatever the class, by the hinge loss (arXiv 1703.10593, 2012.09841).

    It makes an autoencoder's strokes crisp.
    """

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

    def learning_loss(self, real: Tensor, generated: Tensor, labels: Tensor) -> Tensor:
        return F.relu(1 - self.layers(real)).mean() + F.relu(1 + self.layers(generated)).mean()

    def generator_loss(self, generated: Tensor, labels: Tensor) -> Tensor:
        return -self.layers(generated).mean()


class ImageCritic(Critic):
    """Scores whole images beside their class (arXiv 1802.05637) by the logistic loss.

    It sees both sides in one batch, so that their statistics do not give them away, and shifted a little.
    strided: whether it halves its maps by a stride rather than by taking the largest of four.
    """

    def __init__(self, classes: int, strided: bool = False) -> None:
        super().__init__()
        widths, (kernel, stride) = (1, 32, 48, 64), ((5, 2) if strided else (3, 1))
        stages = (
            nn.Sequential(
                nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False),
                *([] if strided else [nn.MaxPool2d(2)]),
                parallel.BatchNorm2d(b),
                nn.LeakyReLU(0.1),
            )
            for a, b in pairwise(widths)
        )
        positions = 16 if strided else 9
        self.features = nn.Sequential(*stages, nn.Flatten(), nn.Linear(64 * positions, 128), nn.LeakyReLU(0.1))
        self.head = nn.Linear(128, 1)
        self.of_class = nn.Embedding(classes, 128)
        nn.init.zeros_(self.of_class.weight)

    def learning_loss(self, real: Tensor, generated: Tensor, labels: Tensor) -> Tensor:
        self.train()
        scores = self._score(torch.cat([real, generated]), labels.repeat(2))
        self.eval()
        return F.softplus(-scores[: len(labels)]).mean() + F.softplus(scores[len(labels) :]).mean()

    def generator_loss(self, generated: Tensor, labels: Tensor) -> Tensor:
        return F.softplus(-self._score(generated, labels)).mean()

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        down, right = (int(torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, ())) for _ in range(2))
        features = self.features(torch.roll(images, (down, right), (2, 3)))
        by_class = (features * self.of_class(labels)).sum(1) / features.shape[1] ** 0.5
        return self.head(features)[:, 0] + by_class


class Adversary:
    """Trains a critic on what it is shown, and says what a generator loses by it."""

    def __init__(self, critic: Critic, device: torch.device, warm_up_steps: int = 0, lr: float = 1e-3) -> None:
        """The critic is not asked, and learns nothing, for the first warm_up_steps calls of `loss`."""
        self._critic = channels_last(critic, device)
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
    def loss(self, real: Tensor, generated: Tensor, labels: Tensor) -> Tensor:
        """The generator's loss, a scalar with gradients to `generated` only, after the critic has learnt a step."""
        if self._waiting > 0:
            self._waiting -= 1
            return torch.zeros((), device=real.device)
        self.learn(real, generated, labels)
        return self._critic.generator_loss(generated, labels)

    def learn(self, real: Tensor, generated: Tensor, labels: Tensor) -> None:
        """Let the critic learn a step from images (N, 1, 28, 28), of which both sides have the labels (N,)."""
        self._critic.requires_grad_(True)
        with torch.enable_grad():
            seen = self._critic.learning_loss(real, generated.detach(), labels)
        self._optimiser.zero_grad()
        seen.backward()
        parallel.average_gradients(self._critic.parameters())
        self._optimiser.step()
        self._critic.requires_grad_(False)
