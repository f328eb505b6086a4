"""The same drawing in eager PyTorch and torch.compile, and one of the shape of the reference, to be timed beside ours.

The reference is a public project's: an autoencoder of inverted bottlenecks and a flow of one such block between two
5x5 convolutions at 7x7, sampled by 50 steps of Euler and Maruyama with two evaluations each. It classifies by as many
evaluations for every class. Weights are random: time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import runtime
from runtime import sampling
from training.networks.autoencoders import AUTOENCODERS, AutoEncoder
from training.networks.blocks import InvertedBottleneck, conv_norm_relu
from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.options import SamplerOptions

STEPS, WEIGHT = 50, 4.0
REFERENCE = "reference's shape, eager PyTorch"
SDE = SamplerOptions(sampler="sde", steps=STEPS, weight=WEIGHT)


def sde_tasks(model: runtime.Model, count: int, compiled: bool) -> dict[str, Callable[[], object]]:
    """Calls that draw `count` images by the 50-step SDE sampler in each way, and by the default one.

    Of what only generates the manifest does not say what the network's arguments are, so PyTorch draws none of it.
    """
    labels = np.arange(count) % len(model.classes)
    reference = Reference(len(model.classes)).eval()
    tasks: dict[str, Callable[[], object]] = {
        REFERENCE: lambda: _draw(reference, (1, 7, 7), labels),
    }
    ours: dict[str, Callable[[], object]] = {"onnxruntime, the default sampler": lambda: model.generate(labels)}
    if model.bundle.only_generates:
        return tasks | ours
    eager, plain = _drawing(model.bundle, SDE).eval(), _default_drawing(model.bundle).eval()
    tasks["eager PyTorch"] = lambda: _draw(eager, model.latent_shape, labels)
    if compiled:
        fast = _drawing(model.bundle, SDE).eval()
        fast.flow.compile_velocity()
        tasks["torch.compile"] = lambda: _draw(fast, model.latent_shape, labels)
    sde: dict[str, Any] = {"sampler": "sde", "steps": STEPS, "weight": WEIGHT, "guidance_start": 0.0}
    tasks["eager PyTorch, the default sampler"] = lambda: _draw(plain, model.latent_shape, labels)
    tasks["onnxruntime"] = lambda: model.generate(labels, **sde)
    return tasks | ours  # last, since PyTorch's threads spin for a while after its calls


def classifying_tasks(model: runtime.Model) -> dict[str, Callable[[], object]]:
    """Calls that classify one image in each way; the reference has its latent."""
    image, latent = model.generate([0]), torch.randn(1, 1, 7, 7)
    reference = Reference(len(model.classes)).eval()
    return {REFERENCE: lambda: reference.errors(latent), "onnxruntime": lambda: model.classify(image)}


class Reference(nn.Module):
    """Networks of the reference's shape.

    An image of ten classes takes them some 65 million multiply-adds, or 108 of more classes, and to classify one some
    625 million, or 4.7 billion.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        in_flow, in_decoder = (32, 32) if classes <= 10 else (42, 64)  # channels at 7x7
        self.classes = classes
        self.label_map = nn.Embedding(classes + 1, 49)
        self.flow = nn.Sequential(
            nn.Conv2d(3, in_flow, 5, padding=2),
            InvertedBottleneck(in_flow, 4),
            nn.ReLU(),
            nn.Conv2d(in_flow, 1, 5, padding=2),
        )
        half = in_decoder // 2
        self.decoder = nn.Sequential(
            conv_norm_relu(1, in_decoder, 3),
            *(InvertedBottleneck(in_decoder, 4) for _ in range(2)),
            nn.Conv2d(in_decoder, 4 * half, 1),
            nn.PixelShuffle(2),
            conv_norm_relu(half, half, 3),
            InvertedBottleneck(half, 4),
            nn.Conv2d(half, 4, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )

    def forward(self, noise: Tensor, labels: Tensor, more_noise: Callable[[int], Tensor]) -> Tensor:
        """Images (N, 1, 28, 28) from noise (N, 1, 7, 7)."""
        both = torch.cat([labels, torch.full_like(labels, self.classes)])

        def velocity(x: Tensor, t: float) -> Tensor:
            found = self._velocity(torch.cat([x, x]), t, both)
            return sampling.guided(found[: len(x)], found[len(x) :], WEIGHT)

        states = sampling.solve("sde", velocity, noise, SDE.times(), sampling.SDE_DIFFUSION, more_noise)
        return self.decoder(sampling.last(states))

    @torch.inference_mode()
    def errors(self, latents: Tensor) -> Tensor:
        """Those of each class's guided velocity for latents (N, 1, 7, 7), summed over times and elements: (N, K)."""
        labels = torch.arange(self.classes).repeat(len(latents))
        data = latents.repeat_interleave(self.classes, dim=0)
        both = torch.cat([labels, torch.full_like(labels, self.classes)])
        total = torch.zeros(len(data))
        for t in SDE.times()[:-1]:
            noise = torch.randn_like(latents).repeat_interleave(self.classes, dim=0)
            x = (1 - t) * noise + t * data
            found = self._velocity(torch.cat([x, x]), t, both)
            velocity = sampling.guided(found[: len(x)], found[len(x) :], WEIGHT)
            total += (velocity - (data - noise)).square().flatten(1).sum(1)
        return total.unflatten(0, (len(latents), self.classes))

    def _velocity(self, x: Tensor, t: float, labels: Tensor) -> Tensor:
        of_class = self.label_map(labels).view(-1, 1, 7, 7)
        return self.flow(torch.cat([x, torch.full_like(x, t), of_class], dim=1))


@torch.inference_mode()
def _draw(drawing: nn.Module, shape: tuple[int, ...], labels: np.ndarray) -> Tensor:
    noise = torch.randn(len(labels), *shape)
    images = drawing(noise, torch.from_numpy(labels), more_noise=lambda step: torch.randn_like(noise))
    return (images * 255).round().to(torch.uint8)


class _Distilled(nn.Module):
    """A bundle's generator at its default weight, called as a Drawing is."""

    def __init__(self, bundle: runtime.Bundle) -> None:
        super().__init__()
        self.generator = Generator(**bundle.manifest["provenance"]["generator"]["network"])
        self.weight = bundle.defaults.weight

    def forward(self, noise: Tensor, labels: Tensor, more_noise: Callable[[int], Tensor]) -> Tensor:
        """Images (N, 1, 28, 28)."""
        return self.generator(noise, labels, torch.full((len(labels),), self.weight))


def _default_drawing(bundle: runtime.Bundle) -> nn.Module:
    """Networks of the bundle's shapes that draw as it does by default."""
    defaults = bundle.defaults
    if defaults.sampler == sampling.FEW:
        return _Distilled(bundle)
    way = SamplerOptions(
        sampler=defaults.sampler,
        steps=defaults.steps,
        weight=defaults.weight,
        guidance_start=defaults.guidance_start,
        diffusion=defaults.diffusion,
    )
    return _drawing(bundle, way)


def _drawing(bundle: runtime.Bundle, way: SamplerOptions) -> Drawing:
    """A flow and a decoder of the bundle's shapes."""
    provenance, kind = bundle.manifest["provenance"], bundle.manifest["autoencoder"]
    autoencoder: AutoEncoder = AUTOENCODERS[kind](**provenance[kind]["network"])
    return Drawing(Flow(**provenance["flow"]["network"]), autoencoder, way)
