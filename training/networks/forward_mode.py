"""Values that carry tangents: a network written once on these runs plainly or with its exact derivative.

A tangent has one more leading axis than its value, the directions: value (N, ...), tangent (K, N, ...).
With the identity as tangents this gives the Jacobian and so the divergence of a velocity field, by
operations that all export to ONNX (torch.func.jvp does not, with a dynamic batch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Dual:
    """A value and, where derivatives are wanted, its tangents."""

    value: Tensor
    tangent: Tensor | None = None

    def map_linear(self, function: Callable[[Tensor], Tensor]) -> Dual:
        """Apply a linear function that takes any leading axes."""
        return Dual(function(self.value), None if self.tangent is None else function(self.tangent))

    def __add__(self, other: Dual) -> Dual:
        tangent = None if self.tangent is None or other.tangent is None else self.tangent + other.tangent
        return Dual(self.value + other.value, tangent)


def linear(layer: nn.Linear, x: Dual) -> Dual:
    """An affine layer on the last axis."""
    return Dual(layer(x.value), None if x.tangent is None else F.linear(x.tangent, layer.weight))


def conv(layer: nn.Conv2d, x: Dual) -> Dual:
    """A convolution of maps (N, C, H, W)."""
    if x.tangent is None:
        return Dual(layer(x.value))
    flat = x.tangent.flatten(0, 1)
    pushed = F.conv2d(flat, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return Dual(layer(x.value), pushed.unflatten(0, x.tangent.shape[:2]))


def normalise(x: Dual, axes: tuple[int, ...], epsilon: float = 1e-5) -> Dual:
    """Zero mean and unit variance over `axes`, the last ones in order, as layer norm does, without weights."""
    if x.tangent is None:
        return Dual(F.layer_norm(x.value, x.value.shape[axes[0] :], eps=epsilon))
    centred = x.value - x.value.mean(axes, keepdim=True)
    inverse = torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)
    value = centred * inverse
    along = (value * x.tangent).mean(axes, keepdim=True)
    return Dual(value, (x.tangent - x.tangent.mean(axes, keepdim=True) - value * along) * inverse)


def scale_shift(x: Dual, factor: Tensor, shift: Tensor) -> Dual:
    """X * factor + shift, with factor and shift constant in x."""
    return Dual(x.value * factor + shift, None if x.tangent is None else x.tangent * factor)


def silu(x: Dual) -> Dual:
    """X * sigmoid(x)."""
    if x.tangent is None:
        return Dual(F.silu(x.value))
    gate = torch.sigmoid(x.value)
    value = x.value * gate
    return Dual(value, x.tangent * (gate + value * (1 - gate)))


def attend(query: Dual, key: Dual, value: Dual) -> Dual:
    """Scaled dot-product attention over the second last axis of (N, heads, positions, width)."""
    scale = query.value.shape[-1] ** -0.5
    weights = torch.softmax(query.value @ key.value.transpose(-1, -2) * scale, dim=-1)
    attended = weights @ value.value
    if query.tangent is None or key.tangent is None or value.tangent is None:
        return Dual(attended)
    scores = query.tangent @ key.value.transpose(-1, -2) + query.value @ key.tangent.transpose(-1, -2)
    pushed = weights * scores * scale
    pushed = pushed - weights * pushed.sum(-1, keepdim=True)
    return Dual(attended, pushed @ value.value + weights @ value.tangent)
