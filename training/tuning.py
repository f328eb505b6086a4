"""Discriminative tuning: a flow's posterior by the denoising rule, and how badly it reads the classes.

Tuned for the very pairs of time and noise that its bundle classifies with, a flow needs few of them.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime import noise
from runtime.bayes import DenoisingBank


class VelocityField(Protocol):
    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor: ...


class PosteriorLoss:
    """Cross-entropy of p(y | z) by the denoising rule with one bank of pairs and a uniform or given prior."""

    def __init__(
        self, bank: DenoisingBank, prior: list[float], latent_shape: tuple[int, ...], device: torch.device
    ) -> None:
        drawn = noise.normal(bank.seed, 0, len(bank.times), latent_shape)
        self._noise = torch.from_numpy(drawn).to(device)
        self._times = torch.tensor(bank.times, device=device)
        self._weights = torch.tensor(bank.weights, device=device)
        self._log_prior = torch.tensor(prior, device=device).log()

    def state_dict(self) -> dict[str, Any]:
        """The weights of the pairs, which are the first flow's, to resume from."""
        return {"weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._weights = state["weights"].to(self._times.device)

    def __call__(self, velocity: VelocityField, latents: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats, a scalar, of standardised latents (N, C, H, W) and labels (N,)."""
        errors = denoising_errors(velocity, latents, self._times, self._noise, len(self._log_prior))
        scores = -torch.einsum("nkc,k->nc", errors.float(), self._weights)
        return F.cross_entropy(scores + self._log_prior, labels)


def denoising_errors(velocity: VelocityField, z: Tensor, times: Tensor, noise: Tensor, classes: int) -> Tensor:
    """What runtime.bayes.denoising_errors computes, with gradients: (N, K, classes)."""
    t = times.view(1, -1, *[1] * (z.ndim - 1))
    x = ((1 - t) * noise + t * z[:, None]).flatten(0, 1)
    target = (z[:, None] - noise).unsqueeze(2).flatten(3)
    found = velocity(
        x.repeat_interleave(classes, 0),
        times.repeat(len(z)).repeat_interleave(classes),
        torch.arange(classes, device=z.device).repeat(len(x)),
    )
    return (found.view(len(z), len(times), classes, -1) - target).square().mean(-1)
