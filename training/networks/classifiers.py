"""A CNN that reads classes from images: much larger than what is shipped, and what a flow may learn classes from."""

from __future__ import annotations

from torch import Tensor, nn

from training.networks.blocks import conv_norm_relu


class Classifier(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to class logits (N, classes); width: channels of the first layer."""

    def __init__(self, classes: int = 10, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm_relu(1, width, 5),
            nn.MaxPool2d(2),
            conv_norm_relu(width, 2 * width, 3),
            conv_norm_relu(2 * width, 2 * width, 3),
            nn.MaxPool2d(2),
            conv_norm_relu(2 * width, 4 * width, 3),
            conv_norm_relu(4 * width, 4 * width, 3),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
        )
        self.head = nn.Linear(9 * 4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images))
