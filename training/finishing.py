"""Finishing: what a flow draws through its few-step sampler and the decoder is pulled towards real images.

Three losses say where to: the Frechet distance and a kernel discrepancy in a classifier's features, and a critic that
learns to tell the images from real ones. The flow and the decoder learn from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from runtime.tracking import Tracker, untracked
from training import parallel
from training.adversary import Adversary, ImageCritic
from training.drawing import Drawing
from training.loop import Stateful
from training.options import DrawingObjective
from training.perception import EmbeddingNetwork, train_classifier
from training.populations import FrechetLoss, KernelLoss

FEATURE_STEPS, FEATURE_BATCH = 1500, 128  # of the classifier through whose features they are seen
FIRST_BATCHES, BATCH = 60, 256  # drawn before the first step
Draw = Callable[[Tensor], Tensor]  # labels (N,) to images (N, 1, 28, 28) in [0, 1]
CRITIC_STEPS, CRITIC_BATCH = 300, 128  # of the critic, before it is asked


class RandomDrawing(nn.Module):
    """A drawing from noise of its own, whose flow and decoder learn; encoder and batch statistics are frozen."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.drawing = drawing
        drawing.autoencoder.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> RandomDrawing:
        super().train(mode)
        self.drawing.autoencoder.eval()
        return self

    def forward(self, labels: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) in [0, 1] drawn for labels (N,)."""
        noise = parallel.randn(len(labels), labels.device, *self.drawing.flow.latent_shape)
        return self.drawing(noise, labels, more_noise=lambda step: parallel.randn_like(noise))


class Finishing:
    """The losses of what is drawn, and all that learns beside it.

    Every other judge is of another architecture, since what pleases a network need not please another.
    """

    def __init__(
        self,
        objective: DrawingObjective,
        images: Tensor,
        labels: Tensor,
        classes: int,
        fresh: bool = True,
        track: Tracker = untracked,
    ) -> None:
        """Real images are uint8 (N, 1, 28, 28), on the device where all of it lies; not fresh: a state follows."""
        self._objective = objective
        self._learners: dict[str, Stateful] = {}
        self._frechet: list[FrechetLoss] = []
        self._kernel: list[KernelLoss] = []
        self._adversaries: list[Adversary] = []
        if objective.frechet_weight or objective.kernel_weight:
            for index in range(objective.judges):
                features = EmbeddingNetwork(classes, pooled=index % 2 == 1)
                train_classifier(features, images, labels, FEATURE_STEPS if fresh else 0, FEATURE_BATCH, track)
                self._learners[f"features {index}"] = features
                if objective.frechet_weight:
                    self._frechet.append(FrechetLoss(features, images, labels, track))
                    self._learners[f"frechet {index}"] = self._frechet[-1]
                if objective.kernel_weight:
                    self._kernel.append(KernelLoss(features))
                    self._learners[f"kernel {index}"] = self._kernel[-1]
        if objective.adversarial_weight:
            for index in range(objective.judges):
                self._adversaries.append(Adversary(ImageCritic(classes, strided=index % 2 == 1), images.device))
                self._learners[f"adversary {index}"] = self._adversaries[-1]

    def state_dict(self) -> dict[str, Any]:
        """All that a run would be another without."""
        return {name: learner.state_dict() for name, learner in self._learners.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        for name, learner in self._learners.items():
            learner.load_state_dict(state[name])

    @torch.no_grad()
    def start(self, draw: Draw, images: Tensor, labels: Tensor, track: Tracker = untracked) -> None:
        """Take the first statistics, and let the critics learn, from images drawn for some of the real ones' labels."""
        with parallel.alone():
            self._start(draw, images, labels, track)

    def _start(self, draw: Draw, images: Tensor, labels: Tensor, track: Tracker) -> None:
        if self._frechet or self._kernel:
            rows = torch.randint(len(labels), (FIRST_BATCHES, BATCH), device=labels.device)
            drawn = [(draw(labels[each]), labels[each]) for each in track(rows, FIRST_BATCHES, "drawing")]
            for frechet in self._frechet:
                frechet.start(drawn)
            for kernel in self._kernel:
                kernel.start([(d, images[each].float() / 255, y) for each, (d, y) in zip(rows, drawn, strict=True)])
        if self._adversaries:
            rows = torch.randint(len(labels), (CRITIC_STEPS, CRITIC_BATCH), device=labels.device)
            for each in track(rows, CRITIC_STEPS, "critic"):
                real, generated = images[each].float() / 255, draw(labels[each])
                for adversary in self._adversaries:
                    adversary.learn(real, generated, labels[each])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, drawn: Tensor, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars for images drawn, (N, 1, 28, 28) in [0, 1], and real ones, uint8, of the same labels (N,).

        "frechet", "kernel" and "adversarial", where they have weight, and "drawing", their weighted sum.
        """
        real = images.float() / 255
        found = {
            "frechet": [loss(drawn, labels) for loss in self._frechet],
            "kernel": [loss(drawn, real, labels) for loss in self._kernel],
            "adversarial": [adversary.loss(real, drawn, labels) for adversary in self._adversaries],
        }
        losses = {name: torch.stack(each).mean() for name, each in found.items() if each}
        weighted = [getattr(self._objective, f"{name}_weight") * loss for name, loss in losses.items()]
        return losses | {"drawing": torch.stack(weighted).sum()}
