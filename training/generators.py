"""The few-step generator: noise, class and guidance weight to an image in one evaluation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.autoencoders import LATENT_SIZE, decoder_layers, pixels_of
from training.flows import MlpBackbone
from training.forward_mode import Dual

LEAST_WEIGHT, MOST_WEIGHT = 0.5, 3.0  # of guidance that it learns


class Generator(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] from noise (N, latent_channels, 7, 7), labels (N,), guidance weights (N,).

    dim1: width of the residual layers that turn noise into a map of the same shape; n_layers: how many; embedding:
    width of the vector of class and weight; dim2, dim3: channels of the layers that draw, at 7x7 and 14x14;
    n_blocks: inverted bottlenecks among them; expansion: their inner width over their outer.
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
    ) -> None:
        super().__init__()
        self.latent_shape = (latent_channels, LATENT_SIZE, LATENT_SIZE)
        self.label_embedding = nn.Embedding(classes, embedding)
        self.weight_layer = nn.Linear(1, embedding)
        self.backbone = MlpBackbone(latent_channels * LATENT_SIZE**2, dim1, n_layers, embedding)
        self.decoder = nn.Sequential(*decoder_layers(latent_channels, dim2, dim3, n_blocks, expansion))

    def logits(self, noise: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """What pixels_of turns into images."""
        scaled = 2 * (weight.clamp(LEAST_WEIGHT, MOST_WEIGHT) - LEAST_WEIGHT) / (MOST_WEIGHT - LEAST_WEIGHT) - 1
        condition = F.silu(self.label_embedding(labels) + self.weight_layer(scaled[:, None]))
        return self.decoder(noise + self.backbone(Dual(noise), condition).value)

    def forward(self, noise: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """The images."""
        return pixels_of(self.logits(noise, labels, weight))
