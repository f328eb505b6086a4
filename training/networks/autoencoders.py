"""Autoencoders: 28x28 images to a small spatial latent and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.blocks import (
    InvertedBottleneck,
    RepeatedConvolution,
    Retouching,
    SelfAttention,
    conv_norm_relu,
)

LATENT_SIZE = 7
# A pixel is a sigmoid stretched to this range and cut at 0 and 1, so that ground and ink can be quite black and white.
LEAST, MOST = -0.03, 1.01


class AutoEncoder(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to latents (N, latent_channels, 7, 7) and back.

    dim1, dim2: channels of encoder and decoder at 7x7; n_layers: inverted bottlenecks in each;
    expansion: their inner width over their outer; dim3: channels of the decoder at 14x14;
    n_heads: self-attention heads over the 49 positions (0: none); dim4: channels of the decoder at 28x28 (0: none).
    """

    variational = False

    def __init__(
        self,
        latent_channels: int = 1,
        dim1: int = 24,
        dim2: int = 24,
        dim3: int = 8,
        n_layers: int = 2,
        expansion: int = 3,
        n_heads: int = 0,
        dim4: int = 0,
    ) -> None:
        super().__init__()
        self.latent_shape = (latent_channels, LATENT_SIZE, LATENT_SIZE)
        self.encoder = nn.Sequential(
            conv_norm_relu(1, 16, 5, stride=2),
            conv_norm_relu(16, dim1, 3, stride=2),
            *(InvertedBottleneck(dim1, expansion) for _ in range(n_layers)),
            *([SelfAttention(dim1, n_heads)] if n_heads else []),
            nn.Conv2d(dim1, latent_channels * (2 if self.variational else 1), 1),
        )
        self.decoder = nn.Sequential(*decoder_layers(latent_channels, dim2, dim3, n_layers, expansion, n_heads, dim4))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The latents' mean and, where the encoder is variational, log-variance; each (N, C, 7, 7)."""
        return self.encoder(images), None

    def draw(self, latents: Tensor) -> Tensor:
        """Images before pixels are cut at 0 and 1, (N, 1, 28, 28)."""
        return stretched_pixels(self.decoder(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1], (N, 1, 28, 28)."""
        return self.draw(latents).clamp(0, 1)


class VarAutoEncoder(AutoEncoder):
    """An autoencoder whose encoder gives a normal distribution (VAE, arXiv 1312.6114)."""

    variational = True

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)


def deviation(mean: Tensor, log_variance: Tensor | None) -> Tensor:
    """Standard deviations of latents, as `encode` gives them; 0 where the encoder is deterministic."""
    return torch.zeros_like(mean) if log_variance is None else torch.exp(0.5 * log_variance)


AUTOENCODERS: dict[str, type[AutoEncoder]] = {"autoencoder": AutoEncoder, "vae": VarAutoEncoder}


def decoder_layers(
    latent_channels: int,
    dim2: int,
    dim3: int,
    n_layers: int,
    expansion: int,
    n_heads: int = 0,
    dim4: int = 0,
    repeats: int = 1,
) -> list[nn.Module]:
    """What turns maps (N, latent_channels, 7, 7) into the logits of images; arguments as of an AutoEncoder.

    repeats: how often the first convolution at 14x14 follows upon itself.
    """
    return [
        conv_norm_relu(latent_channels, dim2, 3),
        *(InvertedBottleneck(dim2, expansion) for _ in range(n_layers)),
        *([SelfAttention(dim2, n_heads)] if n_heads else []),
        nn.Conv2d(dim2, 4 * dim3, 1),
        nn.PixelShuffle(2),
        RepeatedConvolution(dim3, repeats) if repeats > 1 else conv_norm_relu(dim3, dim3, 3),
        nn.Conv2d(dim3, 4, 3, padding=1),
        nn.PixelShuffle(2),
        *([Retouching(dim4)] if dim4 else []),
    ]


def pixels_of(logits: Tensor) -> Tensor:
    """Pixels in [0, 1] of the shape of logits."""
    return stretched_pixels(logits).clamp(0, 1)


def stretched_pixels(logits: Tensor) -> Tensor:
    """The same before they are cut, in [LEAST, MOST]."""
    return LEAST + (MOST - LEAST) * logits.sigmoid()


def sigmoids_of(pixels: Tensor) -> Tensor:
    """The sigmoids of the logits that have these pixels: pixels_of undone, in [0, 1]."""
    return (pixels - LEAST) / (MOST - LEAST)
