"""The class-conditional flow: a velocity field that carries noise to standardised latents.

Time runs from noise, t = 0, to data, t = 1. The field is the closed form for independent Gaussian
elements plus a network's correction, each scaled to unit variance as in EDM (arXiv 2206.00364,
section 5), so that the network only learns what a Gaussian does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime import sampling
from training.networks.backbones import ConvBackbone, MlpBackbone
from training.networks.forward_mode import Dual
from training.networks.sieve import Sieve

N_FREQUENCIES = 8
MOST_ROWS = 2**40  # that are chosen among others, for the exporter, which counts them in 64 bits


class Flow(nn.Module):
    """Velocity v(x, t, y) for x (N, C, 7, 7), t (N,) in [0, 1], labels (N,) int64; label `classes` is "no class".

    backbone: "mlp", residual layers on the flattened latent, or "conv", inverted bottlenecks on its map;
    dim1: width of the layers or channels of the map; n_layers: how many; embedding: width of the vector of
    class and time; expansion and n_heads (0: no self-attention) shape the conv backbone; sieve: width of a perceptron
    that says which classes are worth asking the flow about (0: there is none, and all are).
    """

    def __init__(
        self,
        classes: int = 10,
        latent_channels: int = 1,
        latent_size: int = 7,
        backbone: Literal["mlp", "conv"] = "mlp",
        dim1: int = 120,
        n_layers: int = 3,
        embedding: int = 16,
        expansion: int = 3,
        n_heads: int = 0,
        sieve: int = 0,
    ) -> None:
        super().__init__()
        self.null_label = classes
        self.latent_shape = (latent_channels, latent_size, latent_size)
        self.time_layer = nn.Linear(2 * N_FREQUENCIES, embedding)
        self.label_embedding = nn.Embedding(classes + 1, embedding)
        self.backbone: MlpBackbone | ConvBackbone
        if backbone == "mlp":
            self.backbone = MlpBackbone(math.prod(self.latent_shape), dim1, n_layers, embedding)
        elif backbone == "conv":
            self.backbone = ConvBackbone(latent_channels, dim1, n_layers, embedding, expansion, n_heads)
        else:
            raise ValueError(f"backbone is 'mlp' or 'conv', not {backbone!r}")
        self.sieve = Sieve(math.prod(self.latent_shape), sieve, classes) if sieve else None
        # Statistics of the data: latents are standardised by channel, and each element then has a mean and variance.
        self.register_buffer("channel_mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("channel_std", torch.ones(latent_channels, 1, 1))
        self.register_buffer("element_mean", torch.zeros(self.latent_shape))
        self.register_buffer("element_variance", torch.ones(self.latent_shape))

    channel_mean: Tensor
    channel_std: Tensor
    element_mean: Tensor
    element_variance: Tensor

    def set_statistics(self, latents: Tensor) -> None:
        """Take the statistics from raw latents (N, C, 7, 7)."""
        self.channel_mean.copy_(latents.mean((0, 2, 3)).view(-1, 1, 1))
        self.channel_std.copy_(latents.std((0, 2, 3)).view(-1, 1, 1))
        standardised = self.standardise(latents)
        self.element_mean.copy_(standardised.mean(0))
        self.element_variance.copy_(standardised.var(0).clamp_min(1e-4))

    def standardise(self, latents: Tensor) -> Tensor:
        """Raw latents to those that the flow models."""
        return (latents - self.channel_mean) / self.channel_std

    def unstandardise(self, latents: Tensor) -> Tensor:
        """The flow's latents to those that the decoder takes."""
        return latents * self.channel_std + self.channel_mean

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The velocity, shape of x."""
        return self._push(Dual(x), t, labels).value

    def compile_velocity(self) -> None:
        """Have torch.compile make the code of every velocity: nn.Module.compile would do that of `forward` alone."""
        self._push = torch.compile(self._push)  # type: ignore[method-assign]
        self._parts = torch.compile(self._parts)  # type: ignore[method-assign]
        self._folded = torch.compile(self._folded)  # type: ignore[method-assign]

    def at_time(self, t: float, labels: Tensor, weight: float | Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """The velocity at one time as a function of flattened x: (N, D) to (N, D).

        weight: of guidance, a number or (N, 1); None: there is none. What depends on time and class alone is computed
        here, where the backbone allows it: a session folds it into weights and tables.
        """
        time = self.element_mean.new_full((1,), t)
        if isinstance(self.backbone, MlpBackbone):
            return partial(self._folded, parts=self._parts(self.backbone, time, labels), weight=weight)

        def under(rows: Tensor, maps: Tensor) -> Tensor:
            return self(maps, time, rows).flatten(1)

        def of_maps(x: Tensor) -> Tensor:
            maps = x.unflatten(1, self.latent_shape)
            found = under(labels, maps)
            if weight is None:
                return found
            return _guided(found, maps, partial(under, labels.new_full((1,), self.null_label)), weight)

        return of_maps

    def velocities(self, x: Tensor, t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Those of x (N, K, C, 7, 7) at times t (K,), each under its row's chosen labels (N, M): (N, K, M, C, 7, 7).

        Without a choice they are under every class. What depends on x alone is computed once, and what depends on the
        class alone once for all x, where the backbone allows it.
        """
        classes = torch.arange(self.null_label, device=x.device)
        if isinstance(self.backbone, MlpBackbone):
            return self._push(Dual(x[:, :, None]), t[:, None], classes, chosen).value
        labels = classes.expand(len(x), -1) if chosen is None else chosen
        shape = (*x.shape[:2], labels.shape[1])
        repeated = x[:, :, None].expand(*shape, *self.latent_shape).flatten(0, 2)
        found = self(repeated, t[:, None].expand(shape).flatten(), labels[:, None].expand(shape).flatten())
        return found.unflatten(0, shape)

    def velocity_and_divergence(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity, shape of x, and its exact divergence (N,)."""
        size = math.prod(self.latent_shape)
        directions = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *self.latent_shape)
        result = self._push(Dual(x, directions.expand(size, x.shape[0], *self.latent_shape)), t, labels)
        assert result.tangent is not None
        return result.value, (result.tangent * directions).sum((0, 2, 3, 4))

    def _push(self, x: Dual, t: Tensor, labels: Tensor, rows: Tensor | None = None) -> Dual:
        """At x (N, C, 7, 7), t (N,) and labels (N,); or at x (N, K, 1, C, 7, 7), t (K, 1) and labels (M,).

        rows (N, R): which of the labels (M,) each x goes with in the second case, all by default.
        """
        time = t[..., None, None, None]
        slope, scale_in, scale_out = _scales(time, self.element_variance)
        centred = Dual(x.value - time * self.element_mean, x.tangent)
        gaussian = centred.map_linear(lambda value: slope * value)
        scaled_in, condition = centred.map_linear(lambda value: scale_in * value), self._condition(t, labels)
        if rows is None:
            correction = self.backbone(scaled_in, condition)
        else:
            assert isinstance(self.backbone, MlpBackbone)
            correction = self.backbone(scaled_in, condition, rows)
        scaled = correction.map_linear(lambda value: scale_out * value)
        total = gaussian + scaled
        return Dual(self.element_mean + total.value, total.tangent)

    def _parts(self, backbone: MlpBackbone, t: Tensor, labels: Tensor) -> Parts:
        """Those of the velocity at t (1,) for labels (N,)."""
        slope, scale_in, scale_out = _scales(t, self.element_variance.flatten())
        mean = self.element_mean.flatten()
        centre = t * mean
        first, last = backbone.first, backbone.last
        condition = self._condition(t, torch.arange(self.null_label + 1, device=labels.device))
        return Parts(
            first=(first.weight * scale_in, first.bias - first.weight @ (scale_in * centre)),
            modulations=backbone.modulations(condition, labels),
            of_no_class=backbone.modulations(condition[-1:]),
            last=(scale_out[:, None] * last.weight, scale_out * last.bias + mean - slope * centre),
            slope=slope,
        )

    def _folded(self, x: Tensor, parts: Parts, weight: float | Tensor | None) -> Tensor:
        """The velocity of flattened x (N, D).

        With a class or without, the first layer sees the same x, and the last one is affine, so that it may follow
        guidance.
        """
        backbone = self.backbone
        assert isinstance(backbone, MlpBackbone)

        def under(modulations: list[tuple[Tensor, Tensor]], hidden: Tensor) -> Tensor:
            return backbone.before_last(Dual(hidden), modulations).value

        hidden = F.linear(x, *parts.first)
        found = under(parts.modulations, hidden)
        if weight is not None:
            found = _guided(found, hidden, partial(under, parts.of_no_class), weight)
        return parts.slope * x + F.linear(found, *parts.last)

    def _condition(self, t: Tensor, labels: Tensor) -> Tensor:
        angles = math.pi * t[..., None] * torch.arange(1, N_FREQUENCIES + 1, dtype=t.dtype, device=t.device)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        hidden = self.time_layer(waves) + self.label_embedding(labels)
        return F.silu(hidden)


class Parts(NamedTuple):
    """What a velocity at one time is made of, with all scales and shifts in weight and bias of the outer layers."""

    first: tuple[Tensor, Tensor]
    modulations: list[tuple[Tensor, Tensor]]
    of_no_class: list[tuple[Tensor, Tensor]]  # the modulations, a row
    last: tuple[Tensor, Tensor]
    slope: Tensor  # of x itself


def _scales(time: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By data's variance: of the Gaussian's field, of what the network takes, and of what it gives."""
    of_mix = (1 - time).square() + time.square() * variance
    inverse = of_mix.rsqrt()
    return (time * variance - (1 - time)) / of_mix, inverse, variance.sqrt() * inverse


def _guided(found: Tensor, source: Tensor, without_class: Callable[[Tensor], Tensor], weight: float | Tensor) -> Tensor:
    """Guidance of what was found under labels (N, D); without_class finds as much of rows of its source (N, ...).

    It is asked of those rows alone whose weight, of (N, 1), is another than 1.
    """
    if not isinstance(weight, Tensor):
        guided: Tensor = sampling.guided(found, without_class(source), weight)
        return guided
    chosen = (weight[:, 0] != 1).nonzero()[:, 0]
    torch._check(chosen.shape[0] <= MOST_ROWS)
    some = sampling.guided(found[chosen], without_class(source[chosen]), weight[chosen])
    return found.index_copy(0, chosen, some)
