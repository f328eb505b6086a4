"""The few-step generator: noise, class and guidance weight to an image in one evaluation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.autoencoders import LATENT_SIZE, decoder_layers, pixels_of
from training.networks.backbones import MlpBackbone
from training.networks.forward_mode import Dual

LEAST_WEIGHT, MOST_WEIGHT = 0.5, 3.0  # of guidance that it learns
WAVE_FACTOR = 0.2  # of a number of the noise that is added to a cosine, before training


def check_weight(weight: float) -> None:
    """ValueError for a guidance weight that a generator does not learn."""
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise ValueError(f"a generator has a guidance weight of {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, not {weight:g}")


class Generator(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] from noise (N, latent_channels, 7, 7), labels (N,), guidance weights (N,).

    dim1: width of the residual layers that turn noise into maps of the same shape; n_layers: how many; embedding:
    width of the vector of class and weight; dim2, dim3: channels of the layers that draw, at 7x7 and 14x14;
    n_blocks: inverted bottlenecks among them; expansion: their inner width over their outer; numbers: of the noise that
    are used, the first ones (0: all); frequencies: of cosines, down and across, of which the maps are made (0: the
    layers give every element, as a change of the noise); wave_numbers: of the noise that follow, added to the first so
    many cosines, times a factor of each; repeats: how often each residual layer and the convolution at 14x14 follow
    upon themselves, with the same weights.
    """

    def __init__(
        self,
        classes: int = 10,
        latent_channels: int = 1,
        dim1: int = 96,
        n_layers: int = 3,
        embedding: int = 16,
        dim2: int = 16,
        dim3: int = 8,
        n_blocks: int = 2,
        expansion: int = 3,
        numbers: int = 0,
        frequencies: int = 0,
        wave_numbers: int = 0,
        repeats: int = 1,
    ) -> None:
        super().__init__()
        self.latent_shape = (latent_channels, LATENT_SIZE, LATENT_SIZE)
        size = math.prod(self.latent_shape)
        if numbers > size or frequencies > LATENT_SIZE:
            raise ValueError(f"there are {size} numbers of noise and {LATENT_SIZE} frequencies")
        if bool(numbers) != bool(frequencies):
            raise ValueError("numbers and frequencies go together")
        if repeats < 1:
            raise ValueError(f"layers repeat once or more often, not {repeats} times")
        out = latent_channels * frequencies**2
        if wave_numbers > min(out, size - numbers):
            raise ValueError(f"of {out} cosines and {size - numbers} further numbers there are no {wave_numbers}")
        self.numbers, self.frequencies, self.wave_numbers = numbers, frequencies, wave_numbers
        self.label_embedding = nn.Embedding(classes, embedding)
        self.weight_layer = nn.Linear(1, embedding)
        self.backbone = MlpBackbone(numbers or size, dim1, n_layers, embedding, out or size, repeats)
        self.decoder = nn.Sequential(*decoder_layers(latent_channels, dim2, dim3, n_blocks, expansion, repeats=repeats))
        self.register_buffer("cosines", _cosines(frequencies), persistent=False)
        if wave_numbers:
            self.wave_factors = nn.Parameter(torch.full((wave_numbers,), WAVE_FACTOR))

    cosines: Tensor

    def logits(self, noise: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """What pixels_of turns into images."""
        scaled = 2 * (weight.clamp(LEAST_WEIGHT, MOST_WEIGHT) - LEAST_WEIGHT) / (MOST_WEIGHT - LEAST_WEIGHT) - 1
        condition = F.silu(self.label_embedding(labels) + self.weight_layer(scaled[:, None]))
        if not self.frequencies:
            found = self.backbone.flat(Dual(noise.flatten(1)), condition).value
            return self.decoder(noise + found.unflatten(1, self.latent_shape))
        flat = noise.flatten(1)
        found = self.backbone.flat(Dual(flat[:, : self.numbers]), condition).value
        if self.wave_numbers:
            own = flat[:, self.numbers : self.numbers + self.wave_numbers] * self.wave_factors
            unmoved = found.shape[1] - self.wave_numbers
            found = found + (F.pad(own, (0, unmoved)) if unmoved else own)
        waves = found.unflatten(1, (self.latent_shape[0], self.frequencies, self.frequencies))
        return self.decoder(self.cosines.T @ waves @ self.cosines)

    def repeated(self, noise: Tensor) -> Tensor:
        """Noise of the same shape that has the layers' numbers over and over: all that a teacher sees is told."""
        if not self.numbers:
            return noise
        flat = noise.flatten(1)
        return flat[:, torch.arange(flat.shape[1], device=noise.device) % self.numbers].view_as(noise)

    def without_waves(self, noise: Tensor) -> Tensor:
        """Noise of the same shape that has the layers' numbers alone, and zeros."""
        if not self.numbers:
            return noise
        return F.pad(noise.flatten(1)[:, : self.numbers], (0, noise[0].numel() - self.numbers)).view_as(noise)

    def forward(self, noise: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """The images."""
        return pixels_of(self.logits(noise, labels, weight))


def _cosines(frequencies: int) -> Tensor:
    """The lowest rows of the discrete cosine transform of LATENT_SIZE numbers: (frequencies, LATENT_SIZE)."""
    places = torch.arange(LATENT_SIZE) + 0.5
    rows = torch.cos(math.pi / LATENT_SIZE * torch.arange(frequencies)[:, None] * places)
    return rows * torch.where(torch.arange(frequencies) == 0, 1.0, 2**0.5)[:, None]
