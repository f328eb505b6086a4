"""Building blocks of the networks: inverted linear bottlenecks, self-attention over positions, and the like."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.parallel import BatchNorm2d

Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network, device: torch.device) -> Network:
    """Move a network of convolutions to a device, with channels innermost in memory, which is fastest."""
    moved: Network = cast(Any, network).to(device, memory_format=torch.channels_last)
    return moved


def conv_norm_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU: three layers that an exporter folds into one."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        BatchNorm2d(outputs),
        nn.ReLU(),
    )


def perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """One hidden layer on whatever has `inputs` numbers a row."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project linearly, add (MobileNetV2, arXiv 1801.04381). Maps (N, C, H, W)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.layers = nn.Sequential(
            conv_norm_relu(channels, hidden, 1),
            conv_norm_relu(hidden, hidden, 3, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class RepeatedConvolution(nn.Module):
    """One 3x3 convolution several times, each time with a batch norm of its own and ReLU; all but the first are added.

    Maps (N, C, H, W).
    """

    def __init__(self, channels: int, repeats: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(BatchNorm2d(channels) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.conv(x)))
        for norm in self.norms[1:]:
            x = x + F.relu(norm(self.conv(x)))
        return x


class Retouching(nn.Module):
    """Two convolutions at full resolution, the result of which is added to maps (N, 1, H, W).

    Pixels that come from one position of smaller maps by shuffling differ from their neighbours too sharply; this
    makes them agree. It starts with adding nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        self.layers = nn.Sequential(nn.Conv2d(1, channels, 5, padding=2), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SelfAttention(nn.Module):
    """Every position of a map (N, C, H, W) attends to every other; the result is added."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels can't be divided among {heads} attention heads")
        self.heads = heads
        self.norm: nn.Module = BatchNorm2d(channels)
        self.in_projection = nn.Conv2d(channels, 3 * channels, 1)
        self.out_projection = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        projected = self.in_projection(self.norm(x)).reshape(
            batch, 3, self.heads, channels // self.heads, height * width
        )
        query, key, value = projected.transpose(-1, -2).unbind(1)
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.out_projection(attended.transpose(-1, -2).reshape(x.shape))
