"""How far what is drawn is from what is real as a population, in features: losses of single images' features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.errors import DataError
from training import parallel

LABEL_SCALE = 3.0  # of a label's one-hot vector beside the features
DECAY_IMAGES = 25_600  # drawn, after which the moments of what is drawn have forgotten all but 1/e
LEAST_EIGENVALUE = 1e-4
SHRINKAGE = 0.01  # of what is drawn towards real images, lest a direction without any spread has a boundless gradient
REMEMBERED = 2048  # images of each side that the next ones are compared with
NEIGHBOURS = 5


class FrechetLoss:
    """How to change features (N, D) for their Frechet distance, beside the label, to real ones' to fall.

    With the label there, every class has its own mean. Statistics are of the whole population (arXiv 2604.28190):
    the loss is each image's share of the gradient. What is drawn counts as if SHRINKAGE of it were as real images are.
    """

    def __init__(self, classes: int, device: torch.device, spread: float = 1.0) -> None:
        """It can be asked after `aim_at` and `start`, or after `load_state_dict`; device: of the features.

        spread: real features count as if their variance within each class were so many times as large.
        """
        self._classes, self._device, self._spread = classes, device, spread
        self._mean = self._root = torch.empty(0, device=device)
        self._moments: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """The moments of what is drawn, and real images' statistics."""
        return {"moments": self._moments, "real": [self._mean, self._root]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._moments = [tensor.to(self._device) for tensor in state["moments"]]
        self._mean, self._root = (tensor.to(self._device) for tensor in state["real"])

    def aim_at(self, real: Tensor, labels: Tensor) -> None:
        """Take the statistics of features of all real images, and their labels (N,)."""
        described = self._beside_label(_spread_out(real, labels, self._classes, self._spread), labels).double()
        self._mean, covariance = described.mean(0), described.T.cov()
        values, vectors = torch.linalg.eigh(covariance)
        self._root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T

    def start(self, drawn: Tensor, labels: Tensor) -> None:
        """Take the first moments, of features drawn and their labels."""
        self._moments = _moments(self._beside_label(drawn, labels).double())

    def __call__(self, drawn: Tensor, labels: Tensor) -> Tensor:
        """A scalar for features drawn and their labels, whose gradient is the distance's; NaN where some are NaN."""
        found = self._beside_label(drawn, labels)
        with torch.no_grad():
            share = min(1.0, len(labels) * parallel.count() / DECAY_IMAGES)
            new = [parallel.mean(moment) for moment in _moments(found.double())]
            if not all(moment.isfinite().all() for moment in new):
                return found.new_tensor(torch.nan)  # eigh would fail
            self._moments = [torch.lerp(old, now, share) for old, now in zip(self._moments, new, strict=True)]
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

    def _beside_label(self, features: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([features, LABEL_SCALE * F.one_hot(labels, self._classes)], dim=1)


class KernelLoss:
    """How to change features (N, D) for their kernel discrepancy (MMD, arXiv 0805.2368) to real ones' to fall.

    Class by class, with the kernel exp(-distance / scale), where scale is how far a real image's fifth neighbour of its
    class is: what is drawn goes to where real images are more crowded than drawn ones. The Frechet distance sees no
    crowds within a class. It compares with the last REMEMBERED of each side, from which no gradient comes.
    """

    def __init__(self, device: torch.device) -> None:
        """It can be asked after `start` or `load_state_dict`; device: of the features."""
        self._device = device
        self._scale = self._drawn = self._real = self._labels = torch.empty(0, device=device)

    def state_dict(self) -> dict[str, Any]:
        """The scale, and the features of both sides with their labels."""
        return {"scale": self._scale, "last": [self._drawn, self._real, self._labels]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._scale = state["scale"].to(self._device)
        self._drawn, self._real, self._labels = (tensor.to(self._device) for tensor in state["last"])

    def start(self, drawn: Tensor, real: Tensor, labels: Tensor) -> None:
        """Take the last REMEMBERED of features drawn and real ones, and their labels (N,).

        Raises DataError where no real image has NEIGHBOURS others of its class beside it.
        """
        self._drawn, self._real, self._labels = (each[-REMEMBERED:] for each in (drawn, real, labels))
        apart = torch.cdist(self._real, self._real, compute_mode="donot_use_mm_for_euclid_dist")
        others = (self._labels[:, None] == self._labels) & (apart > 0)  # the same image may be there more than once
        nearest = apart.masked_fill(~others, torch.inf).topk(NEIGHBOURS, largest=False).values[:, -1]
        known = nearest[nearest.isfinite()]
        if not len(known):
            raise DataError(f"a kernel loss takes {NEIGHBOURS} other images of a class")
        self._scale = known.median()

    def __call__(self, drawn: Tensor, real: Tensor, labels: Tensor) -> Tensor:
        """A scalar for features drawn and real ones of the same labels (N,).

        Its gradient is half of that of the mean discrepancy of the classes.
        """
        same = labels[:, None] == self._labels
        near_drawn, near_real = (
            torch.exp(-torch.cdist(drawn, others) / self._scale) for others in (self._drawn, self._real)
        )
        loss = (((near_drawn - near_real) * same).sum(1) / same.sum(1).clamp_min(1)).mean()
        old, new = (self._drawn, self._real, self._labels), (drawn.detach(), real, labels)
        self._drawn, self._real, self._labels = (
            torch.cat([before, parallel.joined(now)])[-REMEMBERED:] for before, now in zip(old, new, strict=True)
        )
        return loss


def _spread_out(features: Tensor, labels: Tensor, classes: int, factor: float) -> Tensor:
    """Features (N, D) with the same mean in each class, and `factor` times the variance around it."""
    count = labels.bincount(minlength=classes).clamp_min(1)
    means = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features) / count[:, None]
    return torch.lerp(means[labels], features, factor**0.5)


def _moments(rows: Tensor) -> list[Tensor]:
    """The mean (D,) and the mean outer product (D, D) of rows (N, D)."""
    return [rows.mean(0), rows.T @ rows / len(rows)]
