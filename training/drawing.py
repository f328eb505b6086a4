"""A flow, its sampler and its decoder as one network that draws images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from runtime import sampling
from training.autoencoders import AutoEncoder
from training.flows import Flow
from training.options import Sampling


class Drawing(nn.Module):
    """Noise to images by the solver of runtime.sampling and the decoder."""

    def __init__(self, flow: Flow, autoencoder: AutoEncoder, sampler: Sampling) -> None:
        super().__init__()
        self.flow, self.autoencoder, self.sampler = flow, autoencoder, sampler

    def forward(
        self,
        noise: Tensor,
        labels: Tensor,
        weight: float | Tensor | None = None,
        more_noise: Callable[[int], Tensor] | None = None,
    ) -> Tensor:
        """Images (N, 1, 28, 28) in [0, 1] from noise (N, *latent_shape) for labels (N,).

        weight: of guidance, of all images or (N, 1, 1, 1), the sampler's by default; more_noise: see sampling.heun.
        """
        way = self.sampler
        spread = sampling.diffusion_of(way.sampler, None, way.diffusion)
        velocity = self._guided(labels, way.weight if weight is None else weight)
        states = sampling.solve(way.sampler, velocity, noise, way.times(), spread, more_noise)
        return self.autoencoder.decode(self.flow.unstandardise(sampling.last(states)))

    def _guided(self, labels: Tensor, weight: float | Tensor) -> sampling.Velocity:
        flow = self.flow
        both = torch.cat([labels, torch.full_like(labels, flow.null_label)])

        def velocity(x: Tensor, t: float) -> Tensor:
            if t < self.sampler.guidance_start or (isinstance(weight, float) and weight == 1):
                return flow.at_time(x, t, labels)
            found = flow.at_time(torch.cat([x, x]), t, both).unflatten(0, (2, -1))
            return sampling.guided(found[0], found[1], weight)

        return velocity
