"""Finishing: what a flow draws through its few-step sampler and the decoder is pulled towards real images.

Two losses say where to: the Frechet distance in a classifier's features, and a critic that learns to tell the images
from real ones. The flow and the decoder learn from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.tracking import Tracker, untracked
from training import parallel
from training.adversary import Adversary, ImageCritic
from training.drawing import Drawing
from training.loop import Stateful
from training.options import DrawingObjective
from training.perception import EmbeddingNetwork, train_classifier

FEATURE_STEPS, FEATURE_BATCH = 1500, 128  # of the classifier through whose features the Frechet distance looks
LABEL_SCALE = 3.0  # of a label's one-hot vector beside the features
DECAY_IMAGES = 25_600  # drawn, after which the moments of what is drawn have forgotten all but 1/e
FIRST_BATCHES, BATCH = 60, 256  # whose moments come first
LEAST_EIGENVALUE = 1e-4
SHRINKAGE = 0.01  # of what is drawn towards real images, lest a direction without any spread has a boundless gradient
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
        self._adversaries: list[Adversary] = []
        if objective.frechet_weight:
            for index in range(objective.judges):
                features = EmbeddingNetwork(classes, pooled=index % 2 == 1)
                train_classifier(features, images, labels, FEATURE_STEPS if fresh else 0, FEATURE_BATCH, track)
                self._frechet.append(FrechetLoss(features, images, labels, track))
                self._learners |= {f"features {index}": features, f"frechet {index}": self._frechet[-1]}
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
        """Take the first moments, and let the critic learn, from images drawn for some of the real ones' labels."""
        with parallel.alone():
            self._start(draw, images, labels, track)

    def _start(self, draw: Draw, images: Tensor, labels: Tensor, track: Tracker) -> None:
        if self._frechet:
            rows = torch.randint(len(labels), (FIRST_BATCHES, BATCH), device=labels.device)
            drawn = [(draw(labels[each]), labels[each]) for each in track(rows, FIRST_BATCHES, "drawing")]
            for loss in self._frechet:
                loss.start(drawn)
        if self._adversaries:
            rows = torch.randint(len(labels), (CRITIC_STEPS, CRITIC_BATCH), device=labels.device)
            for each in track(rows, CRITIC_STEPS, "critic"):
                real, generated = images[each].float() / 255, draw(labels[each])
                for adversary in self._adversaries:
                    adversary.learn(real, generated, labels[each])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, drawn: Tensor, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars for images drawn, (N, 1, 28, 28) in [0, 1], and real ones, uint8, of the same labels (N,).

        "frechet", where it has weight, has the gradient of the Frechet distance; "drawing" is the weighted sum.
        """
        losses: dict[str, Tensor] = {}
        total = torch.zeros((), device=drawn.device)
        if self._frechet:
            losses["frechet"] = torch.stack([loss(drawn, labels) for loss in self._frechet]).mean()
            total = total + self._objective.frechet_weight * losses["frechet"]
        if self._adversaries:
            real = images.float() / 255
            lost = [adversary.loss(real, drawn, labels) for adversary in self._adversaries]
            losses["adversarial"] = torch.stack(lost).mean()
            total = total + self._objective.adversarial_weight * losses["adversarial"]
        return {**losses, "drawing": total}


class FrechetLoss:
    """How to change images for the Frechet distance of their features, beside the label, to real ones' to fall.

    With the label there, every class has its own mean. Statistics are of the whole population (arXiv 2604.28190):
    the loss is each image's share of the gradient. What is drawn counts as if SHRINKAGE of it were as real images are.
    """

    def __init__(self, features: EmbeddingNetwork, images: Tensor, labels: Tensor, track: Tracker = untracked) -> None:
        """Real images are uint8 (N, 1, 28, 28); features are frozen and on their device."""
        self._features = features
        parts = list(zip(images.split(500), labels.split(500), strict=True))
        found = [self._describe(part.float() / 255, of) for part, of in track(parts, len(parts), "real features")]
        described = torch.cat(found).double()
        self._mean, covariance = described.mean(0), described.T.cov()
        values, vectors = torch.linalg.eigh(covariance)
        self._root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        self._moments: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """The moments of what is drawn, and real images' statistics."""
        return {"moments": self._moments, "real": [self._mean, self._root]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        device = self._mean.device
        self._moments = [tensor.to(device) for tensor in state["moments"]]
        self._mean, self._root = (tensor.to(device) for tensor in state["real"])

    def start(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        """Take the first moments, from batches of images drawn and their labels."""
        self._moments = _moments(torch.cat([self._describe(images, labels) for images, labels in parts]).double())

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """A scalar for images (N, 1, 28, 28) in [0, 1] and labels (N,), whose gradient is the distance's."""
        found = self._describe(images, labels)
        with torch.no_grad():
            fresh = min(1.0, len(labels) * parallel.count() / DECAY_IMAGES)
            new = [parallel.mean(moment) for moment in _moments(found.double())]
            self._moments = [torch.lerp(old, now, fresh) for old, now in zip(self._moments, new, strict=True)]
            mean, second = self._moments
            covariance = torch.lerp(second - mean[:, None] * mean, self._root @ self._root, SHRINKAGE)
            values, vectors = torch.linalg.eigh(self._root @ covariance @ self._root)
            inverse_root = (vectors * values.clamp_min(LEAST_EIGENVALUE).rsqrt()) @ vectors.T
            by_covariance = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
            by_covariance -= self._root @ inverse_root @ self._root
            by_mean = 2 * (mean - self._mean)
        centred = found - mean.float()
        spread = torch.einsum("ni,ij,nj->n", centred, by_covariance.float(), centred)
        return (centred @ by_mean.float() + spread).mean()

    def _describe(self, images: Tensor, labels: Tensor) -> Tensor:
        """Features beside the label: (N, D)."""
        one_hot = LABEL_SCALE * F.one_hot(labels, self._features.classes)
        return torch.cat([self._features.embed(images), one_hot], dim=1)


def _moments(rows: Tensor) -> list[Tensor]:
    """The mean (D,) and the mean outer product (D, D) of rows (N, D)."""
    return [rows.mean(0), rows.T @ rows / len(rows)]
