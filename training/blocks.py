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


class Supersampling(nn.Module):
    """Logits of pixels (N, 1, H, W) to pixels that are drawn at twice the size, blurred and halved: (N, 1, H, W).

    So EMNIST's images were made: black and white at a larger size, blurred by a Gaussian with a deviation of one place
    (arXiv 1702.05373), of which, as they show, every second or third place was taken. A mixture of a blur for either,
    which the latents choose, makes an image as sharp as it is. A place is as white as the sigmoid of the logits around
    it, interpolated and, before it has learnt, STEEPNESS times as large.
    """

    STEEPNESS = 4.0
    DEVIATIONS = (1.0, 0.776)  # in places; the latter has the steepest edge that every third place gives, 213 of 255
    TAPS, WIDTH = 6, 16  # of a blur in places; of the hidden layer that reads a latent
    CUT = 0.51 / 255  # grey levels were cut off where ours are rounded, and most of the white is 254

    def __init__(self, latent_size: int) -> None:
        """latent_size: how many numbers a latent has."""
        super().__init__()
        self.places = nn.Conv2d(1, 4, 3, padding=1)
        before, after = torch.tensor([0.25, 0.75, 0]), torch.tensor([0, 0.75, 0.25])
        kernels = [torch.outer(rows, columns) for rows in (before, after) for columns in (before, after)]
        with torch.no_grad():
            self.places.weight.copy_(self.STEEPNESS * torch.stack(kernels)[:, None])
        nn.init.zeros_(cast(Tensor, self.places.bias))
        self.sharpness = perceptron(latent_size, self.WIDTH, 1)
        blurred, sharp = (self._blur(deviation) for deviation in self.DEVIATIONS)
        self.register_buffer("blurs", torch.cat([blurred, sharp - blurred]), persistent=False)
        self.register_buffer("offsets", torch.tensor([-self.CUT, 0.0]), persistent=False)

    blurs: Tensor
    offsets: Tensor

    def forward(self, logits: Tensor, latents: Tensor) -> Tensor:
        """Pixels before they are cut at 0; latents: of any shape, (N, ...)."""
        blurred, sharper = F.conv2d(self.places(logits).sigmoid(), self.blurs, self.offsets, padding=1).split(1, dim=1)
        pixels: Tensor = blurred + self.sharpness(latents).sigmoid()[..., None, None] * sharper
        return pixels

    def _blur(self, deviation: float) -> Tensor:
        """A Gaussian around the middle of a pixel's four places, which are channels: (1, 4, 3, 3)."""
        bell = torch.exp(-0.5 * ((torch.arange(self.TAPS) - (self.TAPS - 1) / 2) / deviation).square())
        return F.pixel_unshuffle(torch.outer(bell, bell)[None, None] / bell.sum().square(), 2)


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
