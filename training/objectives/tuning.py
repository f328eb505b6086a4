"""Discriminative tuning: a flow's posterior by the denoising rule, and how badly it reads the classes.

Tuned for the very pairs of time and noise that its bundle classifies with, a flow needs few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime import noise
from runtime.bayes import DenoisingBank
from training.engine.augmentation import augmented
from training.networks.autoencoders import AutoEncoder
from training.networks.classifiers import Classifier


class VelocityField(Protocol):
    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor: ...


class PosteriorLoss:
    """Cross-entropy of p(y | z) by the denoising rule, among each class and its rivals."""

    def __init__(
        self,
        bank: DenoisingBank,
        prior: list[float],
        latent_shape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        """It can be asked after `start` or `load_state_dict`; bank: pairs, whatever their weights."""
        self.bank = bank
        drawn = noise.normal(bank.seed, 0, len(bank.times), latent_shape)
        self._noise = torch.from_numpy(drawn).to(device)
        self._times = torch.tensor(bank.times, device=device)
        self._weights = self._rivals = torch.empty(0, device=device)
        self._log_prior = torch.tensor(prior, device=device).log()

    def start(self, weights: Sequence[float], rivals: Tensor) -> None:
        """Take the pairs' weights, and rivals int64 (C, M): each class itself and those hardest to tell from it."""
        self.load_state_dict({"weights": torch.tensor(weights), "rivals": rivals})

    def state_dict(self) -> dict[str, Any]:
        """What was found out with the flow that tuning went on from."""
        return {"weights": self._weights, "rivals": self._rivals}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._weights, self._rivals = (state[name].to(self._times.device) for name in ("weights", "rivals"))

    def __call__(
        self, velocity: VelocityField, latents: Tensor, labels: Tensor, target_logits: Tensor | None = None
    ) -> Tensor:
        """Mean cross-entropy in nats, a scalar, of standardised latents (N, C, H, W) and labels (N,).

        target_logits (N, classes): logits of what the posterior should be, which is otherwise sure of the label.
        """
        candidates = self._rivals[labels]
        errors = denoising_errors(velocity, latents, self._times, self._noise, candidates)
        scores = -(errors.float() * self._weights[:, None]).sum(1)  # autocast would round what einsum takes
        posterior = F.log_softmax(scores + self._log_prior[candidates], dim=1)
        if target_logits is None:
            return -posterior[:, 0].mean()
        return -(target_logits.gather(1, candidates).softmax(1) * posterior).sum(1).mean()


class Examples:
    """Latents of images that are changed a little, to learn to classify, and what a classifier reads in them."""

    def __init__(self, autoencoder: AutoEncoder, classifier: Classifier | None, shift: int, distort: float) -> None:
        """shift, distort: see training.options.Options."""
        self._autoencoder, self._classifier, self._shift, self._distort = autoencoder, classifier, shift, distort

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Means of raw latents (N, C, 7, 7) and class logits (N, classes) of uint8 images (N, 1, 28, 28).

        Means, since it is these that are classified in use.
        """
        pixels = augmented(images, self._shift, self._distort).contiguous(memory_format=torch.channels_last)
        logits = None if self._classifier is None else self._classifier(pixels)
        return self._autoencoder.encode(pixels)[0], logits


def denoising_errors(velocity: VelocityField, z: Tensor, times: Tensor, noise: Tensor, candidates: Tensor) -> Tensor:
    """What runtime.bayes.denoising_errors computes, with gradients, for classes (N, M) of each latent: (N, K, M)."""
    count = candidates.shape[1]
    t = times.view(1, -1, *[1] * (z.ndim - 1))
    x = ((1 - t) * noise + t * z[:, None]).flatten(0, 1)
    target = (z[:, None] - noise).unsqueeze(2).flatten(3)
    found = velocity(
        x.repeat_interleave(count, 0),
        times.repeat(len(z)).repeat_interleave(count),
        candidates.repeat_interleave(len(times), 0).flatten(),
    )
    return (found.view(len(z), len(times), count, -1) - target).square().mean(-1)
