"""Ends of decoders by other convolutions: the same result in less time.

onnxruntime moves shuffled pixels one by one, and arranges a convolution's channels in blocks of 8 or 16, so that 4 of
them cost it what 16 do. A transposed convolution is one matrix product, whose results it adds up in their places; and
a map of few channels may be one of four times as many at a quarter of the positions.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.blocks import Network, Retouching

SIDE = 2  # of the square of pixels that a position is shuffled into


def without_shuffling(network: Network) -> Network:
    """A copy that gives the same, whose shufflings are part of the convolutions beside them.

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
                _join(module, index)
    return network


def _join(layers: nn.Sequential, index: int) -> None:
    """Make what shuffles part of the convolution before it and, where there is one, of a 3x3 one right behind it."""
    before = layers[index - 1]
    assert isinstance(before, nn.Conv2d)
    layers[index - 1] = nn.Identity()
    if before.kernel_size != (1, 1):
        layers[index] = LastUpsampling(before)
        return
    behind = layers[index + 1]
    if isinstance(behind, nn.Sequential) and isinstance(behind[0], nn.Conv2d):
        layers[index], behind[0] = SquareUpsampling(before, behind[0]), nn.Identity()
    else:
        layers[index] = PositionUpsampling(before)


class PositionUpsampling(nn.Module):
    """A 1x1 convolution whose channels (N, 4 C, H, W) are shuffled to (N, C, 2 H, 2 W)."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, _shuffled_kernel(self.layer), stride=SIDE) + _shuffled_bias(self.layer, x)


class SquareUpsampling(nn.Module):
    """A PositionUpsampling and a 3x3 convolution to maps (N, C', 2 H, 2 W) behind it.

    Of squares of 2x2 pixels that begin at odd ones, each depends on the four positions it has a pixel of. So what gives
    them is a 2x2 convolution to 4 C' channels, which are shuffled and cut at the edges.
    """

    def __init__(self, layer: nn.Conv2d, behind: nn.Conv2d) -> None:
        super().__init__()
        assert behind.kernel_size == (3, 3)
        self.layer, self.behind = layer, behind

    def forward(self, x: Tensor) -> Tensor:
        channels, weight = self.behind.out_channels, self.behind.weight
        squares = F.conv2d(x, self._kernel(), padding=1)
        places = _places().transpose(0, 1).repeat(channels, 1, 1, 1)
        maps = F.conv_transpose2d(squares, places, stride=SIDE, padding=1, groups=channels)
        return maps + F.conv2d(_shuffled_bias(self.layer, x), weight, self.behind.bias, padding=1)

    def _kernel(self) -> Tensor:
        """(4 C', C, 2, 2): what each position adds to 4x4 pixels around it, by the square in which they are."""
        transposed = F.conv2d(_shuffled_kernel(self.layer), self.behind.weight, padding=2)  # (C, C', 4, 4)
        of_squares = transposed.view(*transposed.shape[:2], SIDE, SIDE, SIDE, SIDE)
        return of_squares.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)


class LastUpsampling(nn.Module):
    """A convolution whose channels (N, 4, H, W) are shuffled to (N, 1, 2 H, 2 W)."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        maps = F.conv_transpose2d(x, _turned(self.layer.weight), _bias(self.layer), padding=_padding(self.layer))
        return F.conv_transpose2d(maps, _places().transpose(0, 1), stride=SIDE)


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


def _shuffled_kernel(layer: nn.Conv2d) -> Tensor:
    """Of the transposed convolution that does what a 1x1 convolution and a shuffling do: (C', C, 2, 2)."""
    return layer.weight.view(-1, SIDE, SIDE, layer.in_channels).permute(3, 0, 1, 2)


def _shuffled_bias(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What a convolution of x (N, C', H, W) adds, shuffled: (1, C, 2 H, 2 W)."""
    return _bias(layer).view(1, -1, SIDE, SIDE).repeat(1, 1, *x.shape[2:])


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _padding(layer: nn.Conv2d) -> int:
    return layer.kernel_size[0] // 2


def _turned(weight: Tensor) -> Tensor:
    """A kernel as that of a transposed convolution does the same."""
    return weight.transpose(0, 1).flip(2, 3)


def _of_squares(weight: Tensor) -> Tensor:
    """Kernels (C, 1, K, K) at every pixel of a square: (4 C, 1, K + 1, K + 1)."""
    return F.conv_transpose2d(weight, _places()).flatten(0, 1)[:, None]


def _places() -> Tensor:
    """Squares with one pixel each, all four: (1, 4, 2, 2)."""
    return torch.eye(SIDE**2).view(1, -1, SIDE, SIDE)
