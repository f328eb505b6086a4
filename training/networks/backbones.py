"""What a flow's correction is computed by, from a standardised state and a vector of class and time.

Both kinds are written once on values with tangents, and give plain results and derivatives.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.forward_mode import Dual, attend, conv, linear, normalise, scale_shift, silu


class MlpBackbone(nn.Module):
    """Residual layers on the flattened latent, `size` numbers to `out` (as many), modulated by the condition.

    repeats: how often each layer follows upon itself.
    """

    def __init__(
        self, size: int, width: int, n_layers: int, embedding: int, out: int | None = None, repeats: int = 1
    ) -> None:
        super().__init__()
        self.repeats = repeats
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(ModulatedLinear(width, embedding) for _ in range(n_layers))
        self.last = nn.Linear(width, out or size)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Dual, condition: Tensor, rows: Tensor | None = None) -> Dual:
        """The correction of x; rows are those of the condition that each x takes, as _taken has them."""
        shape = x.value.shape[-3:]
        flat = self.flat(x.map_linear(lambda value: value.flatten(-3)), condition, rows)
        return flat.map_linear(lambda value: value.unflatten(-1, shape))

    def flat(self, x: Dual, condition: Tensor, rows: Tensor | None = None) -> Dual:
        """The same of numbers (..., size), to (..., out)."""
        return linear(self.last, self.before_last(linear(self.first, x), self.modulations(condition, rows)))

    def modulations(self, condition: Tensor, rows: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """By which each layer's input is multiplied and what is added to it, for each row."""
        return [cast(ModulatedLinear, block).modulation_of(condition, rows) for block in self.blocks]

    def before_last(self, hidden: Dual, modulations: list[tuple[Tensor, Tensor]]) -> Dual:
        """What the last layer makes the correction of, from what the first one has made of x."""
        for block, modulation in zip(self.blocks, modulations, strict=True):
            for _ in range(self.repeats):
                hidden = block(hidden, *modulation)
        return normalise(hidden, (-1,))


class ModulatedLinear(nn.Module):
    """A residual layer behind a normalisation whose scale and shift the condition gives."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.width = width
        self.modulation = nn.Linear(embedding, 2 * width)
        self.layer = nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)

    def modulation_of(self, condition: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Factor and shift."""
        modulation = self.modulation(condition)
        factor, shift = 1 + modulation[..., : self.width], modulation[..., self.width :]
        return (factor, shift) if rows is None else (_taken(factor, rows), _taken(shift, rows))

    def forward(self, x: Dual, factor: Tensor, shift: Tensor) -> Dual:
        return x + linear(self.layer, silu(scale_shift(normalise(x, (-1,)), factor, shift)))


def _taken(table: Tensor, rows: Tensor) -> Tensor:
    """Rows (N,) of a table (M, W), or rows (N, R) of every table of (K, M, W), the latter as (N, K, R, W)."""
    if table.ndim == 2:
        return F.embedding(rows, table)
    side_by_side = table.transpose(0, 1).flatten(1)
    return F.embedding(rows, side_by_side).unflatten(-1, (len(table), -1)).transpose(1, 2)


class ConvBackbone(nn.Module):
    """Inverted bottlenecks on the latent's map between two 5x5 convolutions, modulated by the condition."""

    def __init__(self, channels: int, width: int, n_layers: int, embedding: int, expansion: int, n_heads: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 5, padding=2)
        self.blocks = nn.ModuleList(ModulatedBottleneck(width, expansion, embedding) for _ in range(n_layers))
        self.attention = ModulatedAttention(width, n_heads, embedding) if n_heads else None
        self.last = nn.Conv2d(width, channels, 5, padding=2)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Dual, condition: Tensor) -> Dual:
        hidden = conv(self.first, x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        if self.attention is not None:
            hidden = self.attention(hidden, condition)
        return conv(self.last, normalise(hidden, (-3, -2, -1)))


class ModulatedBottleneck(nn.Module):
    """An inverted bottleneck behind a normalisation whose scale and shift the condition gives."""

    def __init__(self, width: int, expansion: int, embedding: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.modulation = nn.Linear(embedding, 2 * width)
        self.expand = nn.Conv2d(width, hidden, 1)
        self.filter = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Dual, condition: Tensor) -> Dual:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = conv(self.expand, scale_shift(normalise(x, (-3, -2, -1)), 1 + scale, shift))
        return x + conv(self.project, silu(conv(self.filter, silu(hidden))))


class ModulatedAttention(nn.Module):
    """Self-attention over the positions behind a modulated normalisation."""

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels can't be divided among {heads} attention heads")
        self.heads = heads
        self.modulation = nn.Linear(embedding, 2 * width)
        self.query, self.key, self.value = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Dual, condition: Tensor) -> Dual:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = scale_shift(normalise(x, (-3, -2, -1)), 1 + scale, shift)
        query, key, value = (
            conv(layer, hidden).map_linear(self._split) for layer in (self.query, self.key, self.value)
        )
        map_size = x.value.shape[-2:]
        attended = attend(query, key, value).map_linear(
            lambda found: found.transpose(-1, -2).flatten(-3, -2).unflatten(-1, map_size)
        )
        return x + conv(self.out, attended)

    def _split(self, maps: Tensor) -> Tensor:
        """(..., C, H, W) to (..., heads, H W, C / heads)."""
        return maps.flatten(-2).unflatten(-2, (self.heads, -1)).transpose(-1, -2)
