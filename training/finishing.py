"""Finishing: what a flow draws through its few-step sampler and the decoder is pulled to the statistics of real images.

Mean and covariance are of a classifier's features beside the label, so that every class has its own mean. The loss is
the Frechet distance with statistics of the whole population (arXiv 2604.28190): each image's share of its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime import sampling
from runtime.tracking import Tracker, untracked
from training import parallel
from training.autoencoders import AutoEncoder
from training.flows import Flow
from training.options import Sampling
from training.perception import EmbeddingNetwork

LABEL_SCALE = 3.0  # of a label's one-hot vector beside the features
DECAY = 0.99  # of the moments of what is drawn
BATCH = 256  # images drawn at a step
FIRST_BATCHES = 60  # whose moments come first
LEAST_EIGENVALUE = 1e-4


class FrechetLoss:
    """Draws images with a flow and says how to change them for the Frechet distance to real ones to fall."""

    def __init__(
        self,
        autoencoder: AutoEncoder,
        features: EmbeddingNetwork,
        images: Tensor,
        labels: Tensor,
        sampler: Sampling,
        track: Tracker = untracked,
    ) -> None:
        """Real images are uint8 (N, 1, 28, 28); autoencoder and features are frozen and on the images' device."""
        self._autoencoder, self._features, self._sampler = autoencoder, features, sampler
        parts = list(zip(images.split(500), labels.split(500), strict=True))
        found = [self._describe(part.float() / 255, of) for part, of in track(parts, len(parts), "real features")]
        described = torch.cat(found).double()
        self._mean, covariance = described.mean(0), described.T.cov()
        values, vectors = torch.linalg.eigh(covariance)
        self._root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        self._moments: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """All that a run would be another without."""
        return {"features": self._features.state_dict(), "moments": self._moments, "real": [self._mean, self._root]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._features.load_state_dict(state["features"])
        device = self._mean.device
        self._moments = [tensor.to(device) for tensor in state["moments"]]
        self._mean, self._root = (tensor.to(device) for tensor in state["real"])

    @torch.no_grad()
    def start(self, flow: Flow, labels: Tensor, track: Tracker = untracked) -> None:
        """Take the first moments from images of labels (N,) drawn at random."""
        rows = torch.randint(len(labels), (FIRST_BATCHES, BATCH), device=labels.device)
        drawn = [self._draw(flow, labels[each]) for each in track(rows, FIRST_BATCHES, "drawing")]
        self._moments = _moments(torch.cat(drawn).double())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, flow: Flow, labels: Tensor) -> Tensor:
        """A scalar for BATCH images of the first labels (N,), whose gradient is that of the Frechet distance."""
        found = self._draw(flow, labels[:BATCH])
        with torch.no_grad():
            new = [parallel.mean(moment) for moment in _moments(found.double())]
            self._moments = [DECAY * old + (1 - DECAY) * now for old, now in zip(self._moments, new, strict=True)]
            mean, second = self._moments
            values, vectors = torch.linalg.eigh(self._root @ (second - mean[:, None] * mean) @ self._root)
            inverse_root = (vectors * values.clamp_min(LEAST_EIGENVALUE).rsqrt()) @ vectors.T
            by_covariance = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
            by_covariance -= self._root @ inverse_root @ self._root
            by_mean = 2 * (mean - self._mean)
        centred = found - mean.float()
        spread = torch.einsum("ni,ij,nj->n", centred, by_covariance.float(), centred)
        return (centred @ by_mean.float() + spread).mean()

    def _draw(self, flow: Flow, labels: Tensor) -> Tensor:
        """Features of images drawn with the sampler for labels (N,): (N, D)."""
        noise = parallel.randn_like(torch.empty(len(labels), *flow.latent_shape, device=labels.device))
        z = sampling.last(sampling.heun(_guided(flow, labels, self._sampler), noise, self._sampler.times()))
        return self._describe(self._autoencoder.decode(flow.unstandardise(z)), labels)

    def _describe(self, images: Tensor, labels: Tensor) -> Tensor:
        one_hot = LABEL_SCALE * F.one_hot(labels, self._features.classes)
        return torch.cat([self._features.embed(images), one_hot], dim=1)


def _moments(rows: Tensor) -> list[Tensor]:
    """The mean (D,) and the mean outer product (D, D) of rows (N, D)."""
    return [rows.mean(0), rows.T @ rows / len(rows)]


def _guided(flow: Flow, labels: Tensor, sampler: Sampling) -> sampling.Velocity:
    both = torch.cat([labels, torch.full_like(labels, flow.null_label)])

    def velocity(x: Tensor, t: float) -> Tensor:
        if sampler.weight == 1 or t < sampler.guidance_start:
            return flow(x, torch.full((len(x),), t, device=x.device), labels)
        found = flow(torch.cat([x, x]), torch.full((2 * len(x),), t, device=x.device), both)
        return sampling.guided(found[: len(x)], found[len(x) :], sampler.weight)

    return velocity
