"""Networks whose results are the same by operators that take less time."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.graphs import Networks
from export.upsampling import without_shuffling
from training.networks.blocks import Network, RepeatedConvolution, SelfAttention


def folded(networks: Networks) -> Networks:
    """The networks of a bundle, its autoencoder and generator as folded_network makes them."""
    generator = networks.generator
    return Networks(folded_network(networks.autoencoder), networks.flow, generator and folded_network(generator))


def folded_network(network: Network) -> Network:
    """A copy without batch norms and without shuffled pixels, whose results are the same."""
    return without_shuffling(fold_batch_norms(network))


def fold_batch_norms(network: Network) -> Network:
    """A copy in which every batch norm is part of the convolution beside it, or a factor and a shift of channels.

    The latter where several share one convolution.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if isinstance(module, SelfAttention) and isinstance(module.norm, nn.BatchNorm2d):
            module.in_projection = _with_norm_before(module.norm, module.in_projection)
            module.norm = nn.Identity()
        if isinstance(module, RepeatedConvolution):
            module.norms = nn.ModuleList(_without_statistics(norm) for norm in module.norms)
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            layer, norm = module[index], module[index + 1]
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index], module[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return folded


class ChannelScaling(nn.Module):
    """What a trained batch norm does to maps (N, C, H, W)."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(norm)
        self.weight, self.bias = nn.Parameter(scale), nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def _without_statistics(norm: nn.Module) -> nn.Module:
    """A layer, but for a batch norm what does the same."""
    return ChannelScaling(norm) if isinstance(norm, nn.BatchNorm2d) else norm


@torch.no_grad()
def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """By which a trained batch norm multiplies each channel, and what it adds."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def _with_norm_before(norm: nn.BatchNorm2d, layer: nn.Conv2d) -> nn.Conv2d:
    """A 1x1 convolution that does what a batch norm and then this one does."""
    assert layer.bias is not None
    scale, shift = _scale_and_shift(norm)
    both = copy.deepcopy(layer)
    both.weight.mul_(scale[None, :, None, None])
    both.bias = nn.Parameter(layer.bias + layer.weight[:, :, 0, 0] @ shift)
    return both
