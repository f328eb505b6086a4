"""What a torch flow gives the runtime's rules of classification: errors, scores and densities in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.bayes import DenoisingBank, Floats
from runtime.scoring import Scorer
from runtime.tracking import Tracker, untracked
from training.networks.flows import Flow

LIKELIHOOD_STEPS = 8
_PIECE = 8  # latents between two reports of progress


class NumpyFlow:
    """A flow on numpy arrays, for the functions of runtime.bayes."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._device = flow.element_mean.device

    @torch.no_grad()
    def velocity(self, x: Floats, t: Floats, labels: NDArray[np.int64]) -> Floats:
        found: Floats = (
            self._flow(self._floats(x), self._floats(t), torch.from_numpy(labels).to(self._device)).cpu().numpy()
        )
        return found

    @torch.no_grad()
    def velocity_and_divergence(self, x: Floats, t: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
        found = self._flow.velocity_and_divergence(
            self._floats(x), self._floats(t), torch.from_numpy(labels).to(self._device)
        )
        return found[0].cpu().numpy(), found[1].cpu().numpy()

    def _floats(self, array: Floats) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(self._device)


def scorer_of(flow: Flow, classes: int, bank: DenoisingBank) -> Scorer:
    """The rules of classification by this flow and a bank of pairs, on latents in numpy."""
    field = NumpyFlow(flow)
    return Scorer(classes, flow.latent_shape, bank, LIKELIHOOD_STEPS, field.velocity, field.velocity_and_divergence)


def errors_of(flow: Flow, latents: Tensor, bank: DenoisingBank, classes: int, track: Tracker = untracked) -> Floats:
    """Errors (N, K, classes) of standardised latents (N, C, 7, 7) for a bank's K pairs, whatever their weights."""
    return in_pieces(scorer_of(flow, classes, bank).denoising_errors, latents.numpy(), track, "denoising")


def in_pieces(function: Callable[[Floats], Floats], z: Floats, track: Tracker, label: str) -> Floats:
    """What a function of latents gives for all of z (N, ...), a few at a time, with progress."""
    pieces = [z[start : start + _PIECE] for start in range(0, len(z), _PIECE)]
    return np.concatenate([function(piece) for piece in track(pieces, len(pieces), f"calibrating: {label}")])


@torch.no_grad()
def sieved(flow: Flow, latents: Tensor) -> Floats | None:
    """The logits of a flow's sieve (N, C), where it has one."""
    if flow.sieve is None:
        return None
    found: Floats = flow.sieve(latents.to(flow.element_mean.device)).cpu().numpy()
    return found
