"""Weights of few bits: whole multiples of a scale of their row, and networks that learn to do with them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.networks.blocks import Network
from training.paths import Bits

LEVELS: dict[Bits, int] = {"int8": 127, "int5": 15, "int4": 7}  # the largest multiple
SCALES, SLACK = 4, 0.01  # in an octave; and what float16 may add to one of them


def to_levels(weights: Tensor, levels: int) -> Tensor:
    """Weights as whole multiples, -levels to levels, of a scale of their own in each row.

    The scale has the precision of float16, so that levels times it is exact, and from that it can be found again. Where
    there are few levels that of a matrix is one of SCALES in every octave, which takes less room than any; that of a
    kernel is not, since a batch norm's factor is to become part of it.
    """
    scale = weights.flatten(1).abs().amax(1).view(-1, *[1] * (weights.ndim - 1)) / levels
    if levels < LEVELS["int8"] and weights.ndim == 2:
        scale = 2 ** ((SCALES * scale.log2() + SLACK).floor() / SCALES)
    else:
        scale = scale * (1 + 2**-10)
    scale = scale.half().float().clamp_min(torch.finfo(torch.float16).smallest_normal)
    return (weights / scale).round().clamp(-levels, levels) * scale


class Rounding:
    """What a network computes with weights rounded while it learns exact ones (straight-through, arXiv 1308.3432).

    A step in an exact weight is often too small to change the rounded one, but steps add up. Rounded are matrices and
    kernels that learn; without bits none are.
    """

    def __init__(self, network: nn.Module, bits: Bits | None) -> None:
        self._bits = bits
        self._weights = [each for each in network.parameters() if bits and each.requires_grad and each.ndim > 1]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network's weights are rounded within; its gradients there are those of the exact ones."""
        exact = [each.detach().clone() for each in self._weights]
        self._round()
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip(self._weights, exact, strict=True):
                    weight.copy_(value)

    def of(self, network: Network) -> Network:
        """A copy with rounded weights of a network like this one."""
        if self._bits is None:
            return network
        network = copy.deepcopy(network)
        Rounding(network, self._bits)._round()
        return network

    @torch.no_grad()
    def _round(self) -> None:
        for weight in self._weights:
            assert self._bits is not None
            weight.copy_(to_levels(weight, LEVELS[self._bits]))
