"""A flow, its sampler and its decoder as one network that draws images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor, nn

from runtime import sampling
from training.networks.autoencoders import AutoEncoder
from training.networks.flows import Flow
from training.options import SamplerOptions


class Drawing(nn.Module):
    """Noise to images by the solver of runtime.sampling and the decoder."""

    def __init__(self, flow: Flow, autoencoder: AutoEncoder, sampler: SamplerOptions) -> None:
        super().__init__()
        self.flow, self.autoencoder, self.sampler = flow, autoencoder, sampler

    def forward(
        self,
        noise: Tensor,
        labels: Tensor,
        weight: float | Tensor | None = None,
        more_noise: Callable[[int], Tensor] | None = None,
    ) -> Tensor:
        """Images (N, 1, 28, 28) in [0, 1] from what `latents` takes."""
        return self.autoencoder.decode(self.latents(noise, labels, weight, more_noise))

    def latents(
        self,
        noise: Tensor,
        labels: Tensor,
        weight: float | Tensor | None = None,
        more_noise: Callable[[int], Tensor] | None = None,
    ) -> Tensor:
        """Raw latents of the shape of noise (N, *latent_shape) for labels (N,).

        weight: of guidance, of all images or (N, 1), the sampler's by default; more_noise: see sampling.heun.
        """
        way, flow = self.sampler, self.flow
        guidance = way.weight if weight is None else weight

        @cache
        def field(t: float) -> Callable[[Tensor], Tensor]:
            unguided = t < way.guidance_start or (isinstance(guidance, float) and guidance == 1)
            return flow.at_time(t, labels, None if unguided else guidance)

        def flat_noise(step: int) -> Tensor:
            assert more_noise is not None
            return more_noise(step).flatten(1)

        states = sampling.solve(
            way.sampler, lambda x, t: field(t)(x), noise.flatten(1), way.times(), way.spread, flat_noise
        )
        return flow.unstandardise(sampling.last(states).unflatten(1, flow.latent_shape))
