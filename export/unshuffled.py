"""Convolutions of large maps with few channels, done on the smaller maps that shuffling makes the large ones of.

onnxruntime arranges channels in blocks of 8 or 16, so that 4 channels cost it what 16 do: at half the resolution they
are 16, and a quarter of the positions.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks import Network, Retouching

SIDE = 2  # of the square of pixels that a position is shuffled into
REACH = 3  # positions, side by side, that a kernel of up to 5 pixels sees of the smaller maps


def unshuffled(network: Network) -> Network:
    """A copy whose retouching, where it follows a shuffling, comes before it, with the same result."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            shuffle, retouching = module[index], module[index + 1]
            if isinstance(shuffle, nn.PixelShuffle) and isinstance(retouching, Retouching):
                module[index], module[index + 1] = UnshuffledRetouching(retouching), shuffle
    return network


class UnshuffledRetouching(nn.Module):
    """Retouching on maps (N, 4, H, W) that are shuffled to (N, 1, 2 H, 2 W) afterwards."""

    def __init__(self, retouching: Retouching) -> None:
        super().__init__()
        first, _, last = retouching.layers
        assert isinstance(first, nn.Conv2d)
        assert isinstance(last, nn.Conv2d)
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return x + _convolved(self.last, F.relu(_convolved(self.first, x)))


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What a layer makes of the shuffled maps, before shuffling: (N, 4 C, H, W) to (N, 4 C', H, W)."""
    assert layer.bias is not None
    return F.conv2d(x, _weight(layer.weight), layer.bias.repeat_interleave(SIDE**2), padding=REACH // 2)


def _weight(weight: Tensor) -> Tensor:
    """Of pixels (C', C, K, K) to that of positions (4 C', 4 C, REACH, REACH)."""
    outputs, inputs, size, _ = weight.shape
    before = (SIDE * REACH - size) // 2  # of the pixels that its REACH positions have on an axis
    after = SIDE * REACH - size - before
    shifts = range(SIDE)
    of_pixels = [
        F.pad(weight, (before + right, after - right, before + down, after - down))
        for down in shifts
        for right in shifts
    ]
    positions = torch.stack(of_pixels, 1).view(outputs, SIDE**2, inputs, REACH, SIDE, REACH, SIDE)
    return positions.permute(0, 1, 2, 4, 6, 3, 5).reshape(SIDE**2 * outputs, SIDE**2 * inputs, REACH, REACH)
