"""Ends of decoders by transposed and strided convolutions: the same result in less time.

onnxruntime moves shuffled pixels one by one, and arranges a convolution's channels in blocks of 8 or 16, so that 4 of
them cost it what 16 do. A transposed convolution is one matrix product, whose results it adds up in their places.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks import Network, Retouching

SIDE = 2  # of the square of pixels that a position is shuffled into


def without_shuffling(network: Network) -> Network:
    """A copy that gives the same, whose shufflings are part of the convolutions before them.

    Retouching is done at half the size.
    """
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for index, layer in enumerate(list(module)):
            if isinstance(layer, Retouching):
                module[index] = HalvedRetouching(layer)
            if isinstance(layer, nn.PixelShuffle):
                before = module[index - 1]
                assert isinstance(before, nn.Conv2d)
                upsampling = PositionUpsampling if before.kernel_size == (1, 1) else LastUpsampling
                module[index - 1], module[index] = upsampling(before), nn.Identity()
    return network


class PositionUpsampling(nn.Module):
    """A 1x1 convolution whose channels (N, 4 C, H, W) are shuffled to (N, C, 2 H, 2 W)."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.layer.weight.view(-1, SIDE, SIDE, x.shape[1]).permute(3, 0, 1, 2)
        bias = _bias(self.layer).view(-1, SIDE, SIDE).repeat(1, *x.shape[2:])
        return F.conv_transpose2d(x, kernel, stride=SIDE) + bias


class LastUpsampling(nn.Module):
    """A convolution whose channels (N, 4, H, W) are shuffled to (N, 1, 2 H, 2 W)."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        maps = F.conv_transpose2d(x, _turned(self.layer.weight), _bias(self.layer), padding=_padding(self.layer))
        return F.conv_transpose2d(maps, torch.eye(SIDE**2).view(-1, 1, SIDE, SIDE), stride=SIDE)


class HalvedRetouching(nn.Module):
    """Retouching of (N, 1, H, W) in which squares of the pixels of its channels (N, C, H, W) are channels instead."""

    def __init__(self, retouching: Retouching) -> None:
        super().__init__()
        first, _, last = retouching.layers
        assert isinstance(first, nn.Conv2d)
        assert isinstance(last, nn.Conv2d)
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = _of_squares(self.first.weight), _bias(self.first).repeat_interleave(SIDE**2)
        found = F.conv2d(x, kernel, bias, stride=SIDE, padding=_padding(self.first)).relu()
        kernel = _of_squares(_turned(self.last.weight))
        return x + F.conv_transpose2d(found, kernel, self.last.bias, stride=SIDE, padding=_padding(self.last))


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _padding(layer: nn.Conv2d) -> int:
    return layer.kernel_size[0] // 2


def _turned(weight: Tensor) -> Tensor:
    """A kernel as that of a transposed convolution does the same."""
    return weight.transpose(0, 1).flip(2, 3)


def _of_squares(weight: Tensor) -> Tensor:
    """Kernels (C, C', K, K) at every pixel of a square: (4 C, C', K + 1, K + 1)."""
    one, shifts = weight[:, None], range(SIDE)
    return torch.cat(
        [F.pad(one, (right, 1 - right, down, 1 - down)) for down in shifts for right in shifts], 1
    ).flatten(0, 1)
