"""The graphs that leave a caller nothing to do: noise to images, images to posteriors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime import noise
from runtime.bayes import DenoisingBank
from training.networks.autoencoders import AutoEncoder
from training.networks.drawing import Drawing
from training.networks.flows import MOST_ROWS, Flow
from training.options import SamplerOptions
from training.staged_reading import CERTAIN, joined, staged_scores

BAND = 4  # neighbouring rows of a slanted image that are moved alike


class View(NamedTuple):
    """An image moved by whole pixels, and slanted: 1 moves each band of rows a pixel further right than the one above.

    The middle band is moved as the whole image is.
    """

    down: int
    right: int
    slant: int = 0


# Of MNIST and FashionMNIST the former read most validation images right, of EMNIST, whose letters slant, the latter.
SIDES = (View(-1, 0), View(1, 0), View(0, -1), View(0, 1))
CORNERS_AND_SLANTS = (View(-1, -1), View(1, 1), View(0, 0, -1), View(0, 0, 1))


def one_call_drawing(flow: Flow, autoencoder: AutoEncoder, sampler: SamplerOptions) -> nn.Module:
    """What draws with all steps of the sampler, without its diffusion."""
    return _Guided(Drawing(flow, autoencoder, sampler.deterministic()))


class Generate(nn.Module):
    """Images uint8 (N, 28, 28) from noise (N, C, 7, 7), labels (N,) and guidance weights (N,), in one call."""

    def __init__(self, drawing: nn.Module) -> None:
        super().__init__()
        self.drawing = drawing

    def forward(self, noise: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return (self.drawing(noise, labels, weight).squeeze(1) * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class PosteriorRule:
    """How scores become posteriors: the denoising rule's bank of pairs, its temperature, p(y) (C,).

    stages: pairs in the order in which they are asked, each with the number of classes still in question: all at first,
    but where the flow has a sieve. settled: the posterior of a class from which on no more than the first stage is
    asked, and the scores are multiplied by emphasis; certain: from which on an image is not read again. unsettled,
    doubtful: about the shares of validation images of which more is asked, and that are read again; views: in which.
    """

    bank: DenoisingBank
    temperature: float
    prior: tuple[float, ...]
    stages: tuple[tuple[int, int], ...]
    doubtful: float
    certain: float = CERTAIN
    settled: float = 1.0
    unsettled: float = 1.0
    emphasis: float = 1.0
    views: tuple[View, ...] = SIDES


class Classify(nn.Module):
    """Images uint8 (N, 28, 28) to log p(x | y), up to a constant of the image, and p(y | x), by the denoising rule.

    The former is calibrated as the latter is: divided by the rule's temperature, and no density in nats.
    An image of which no class is as probable as reading.certain is read again in each of reading.views; the posterior
    is the mean of all.
    """

    def __init__(self, autoencoder: AutoEncoder, flow: Flow, reading: PosteriorRule) -> None:
        super().__init__()
        self.once = ReadOnce(autoencoder, flow, reading)
        self.log_certain, self.views = math.log(reading.certain), reading.views

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logs = self._log_posterior(images)
        doubtful = (logs.amax(1) < self.log_certain).nonzero()[:, 0]
        torch._check(doubtful.shape[0] <= MOST_ROWS)
        again = self._log_posterior(_seen(images[doubtful], self.views)).unflatten(0, (len(self.views), -1))
        seen = torch.cat([logs[doubtful][None], again])
        most = seen.amax(0)
        logs = logs.index_copy(0, doubtful, most + (seen - most).exp().mean(0).log())
        return logs - self.once.log_prior, logs.exp()

    def _log_posterior(self, images: Tensor) -> Tensor:
        return torch.log_softmax(self.once(images) + self.once.log_prior, dim=1)


def _seen(images: Tensor, views: Sequence[View]) -> Tensor:
    """Images (N, 28, 28) in all views, one after the other, where zeros come in: (N times the views, 28, 28)."""
    height, width = images.shape[1:]
    middle = height // BAND // 2
    high, wide = max(abs(view.down) for view in views), max(abs(v.right) + abs(v.slant) * middle for v in views)
    padded = F.pad(images, (wide, wide, high, high))

    def part(view: View, top: int, rows: int) -> Tensor:
        above, left = high - view.down + top, wide - view.right - view.slant * (top // BAND - middle)
        return padded[:, above : above + rows, left : left + width]

    def seen(view: View) -> Tensor:
        if not view.slant:
            return part(view, 0, height)
        return torch.cat([part(view, top, BAND) for top in range(0, height, BAND)], dim=1)

    return torch.cat([seen(view) for view in views])


class ReadOnce(nn.Module):
    """Images uint8 (N, 28, 28) to log p(x | y) (N, C), up to a constant of the image, by the denoising rule.

    It is done in stages, as training.staged_reading says.
    """

    def __init__(self, autoencoder: AutoEncoder, flow: Flow, reading: PosteriorRule) -> None:
        super().__init__()
        self.autoencoder, self.flow = autoencoder, flow
        bank = reading.bank
        self.times, self.weights = torch.tensor(bank.times), torch.tensor(bank.weights) / reading.temperature
        self.noise = torch.from_numpy(noise.normal(bank.seed, 0, len(bank.times), flow.latent_shape))
        self.log_prior = torch.tensor(reading.prior).log()
        self.settled, self.emphasis = reading.settled, reading.emphasis
        self.stages = joined(reading.stages, first_alone=self.settled < 1)

    def forward(self, images: Tensor) -> Tensor:
        z = self.flow.standardise(self.autoencoder.encode(images[:, None].float() / 255)[0])
        sieved = None if self.flow.sieve is None else self.flow.sieve(z)
        return staged_scores(partial(self._score, z), self.stages, self.log_prior, sieved, self.settled, self.emphasis)

    def _score(self, z: Tensor, pairs: list[int], kept: Tensor | None, rows: Tensor | None) -> Tensor:
        """What pairs add to the scores of the classes kept (R, M), or of all, of some rows of z, or of all: (R, M)."""
        z = z if rows is None else z[rows]
        times, drawn = self.times[pairs], self.noise[pairs]
        along = times[:, None, None, None]
        noisy = (1 - along) * drawn + along * z[:, None]
        errors = self.flow.velocities(noisy, times, kept) - (z[:, None] - drawn)[:, :, None]
        return -torch.einsum("nkm,k->nm", errors.square().mean((3, 4, 5)), self.weights[pairs])


class _Guided(nn.Module):
    """A drawing whose guidance weights are (N,)."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.drawing = drawing

    def forward(self, noise: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return self.drawing(noise, labels, weight[:, None])
