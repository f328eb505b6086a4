"""How far what is drawn is from real images as a population, in the features of a network: losses of single images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.tracking import Tracker, untracked
from training import parallel
from training.perception import EmbeddingNetwork

LABEL_SCALE = 3.0  # of a label's one-hot vector beside the features
DECAY_IMAGES = 25_600  # drawn, after which the moments of what is drawn have forgotten all but 1/e
LEAST_EIGENVALUE = 1e-4
SHRINKAGE = 0.01  # of what is drawn towards real images, lest a direction without any spread has a boundless gradient
REMEMBERED = 2048  # images of each side that the next ones are compared with
NEIGHBOURS = 5


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


class KernelLoss:
    """How to change images for the kernel discrepancy (MMD, arXiv 0805.2368) of their features to real ones' to fall.

    Class by class, with the kernel exp(-distance / scale), where scale is how far a real image's fifth neighbour of its
    class is: an image goes to where real ones are more crowded than drawn ones. The Frechet distance sees no
    crowds within a class. It compares with the last REMEMBERED of each side, from which no gradient comes.
    """

    def __init__(self, features: EmbeddingNetwork) -> None:
        """Features are frozen."""
        self._features = features
        self._scale = torch.ones(())
        self._drawn, self._real, self._labels = torch.empty(0), torch.empty(0), torch.empty(0)

    def state_dict(self) -> dict[str, Any]:
        """The scale, and the features of both sides with their labels."""
        return {"scale": self._scale, "last": [self._drawn, self._real, self._labels]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        device = next(self._features.parameters()).device
        self._scale = state["scale"].to(device)
        self._drawn, self._real, self._labels = (tensor.to(device) for tensor in state["last"])

    def start(self, parts: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Take the first REMEMBERED of batches: images drawn, real ones, (N, 1, 28, 28) in [0, 1], and their labels."""
        drawn, real, labels = zip(*parts, strict=True)
        self._labels = torch.cat(labels)[-REMEMBERED:]
        self._drawn, self._real = (self._features.embed(torch.cat(side)[-REMEMBERED:]) for side in (drawn, real))
        apart = torch.cdist(self._real, self._real)
        apart.masked_fill_(self._labels[:, None] != self._labels, torch.inf)
        nearest = apart.topk(NEIGHBOURS + 1, largest=False).values[:, NEIGHBOURS]  # an image is its own nearest
        self._scale = nearest[nearest.isfinite()].median()

    def __call__(self, images: Tensor, real: Tensor, labels: Tensor) -> Tensor:
        """A scalar for images drawn and real ones, both (N, 1, 28, 28) in [0, 1], of the same labels (N,).

        Its gradient is half of that of the mean discrepancy of the classes.
        """
        found = self._features.embed(images)
        loss = (self._crowd(found, labels, self._drawn) - self._crowd(found, labels, self._real)).mean()
        with torch.no_grad():
            new = (found.detach(), self._features.embed(real), labels)
            old = (self._drawn, self._real, self._labels)
            self._drawn, self._real, self._labels = (
                torch.cat([before, parallel.joined(now)])[-REMEMBERED:] for before, now in zip(old, new, strict=True)
            )
        return loss

    def _crowd(self, found: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """The mean kernel of features (N, D) with those of the others that have their label: (N,)."""
        same = labels[:, None] == self._labels
        near = torch.exp(-torch.cdist(found, others) / self._scale)
        return (near * same).sum(1) / same.sum(1).clamp_min(1)


def _moments(rows: Tensor) -> list[Tensor]:
    """The mean (D,) and the mean outer product (D, D) of rows (N, D)."""
    return [rows.mean(0), rows.T @ rows / len(rows)]
