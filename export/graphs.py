"""The graphs of a bundle as torch modules: plain tensors in and out, every constant inside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from export.one_call import Classify, Generate, PosteriorRule, ReadOnce, one_call_drawing
from training.networks.autoencoders import AutoEncoder
from training.networks.flows import Flow
from training.networks.generators import LEAST_WEIGHT, MOST_WEIGHT, Generator
from training.objectives.losses import kl_divergence
from training.options import SamplerOptions


@dataclass(frozen=True)
class Cost:
    """What runs on a row of a graph that does more for some rows than for others.

    once: a whole run; runs: how many a row has on average; least: all of a run but for a share `whole` of the runs,
    where there is such a thing.
    """

    once: nn.Module
    runs: float
    least: nn.Module | None
    whole: float


@dataclass(frozen=True)
class GraphSpec:
    """One file of a bundle: its module, the names of its inputs and outputs, and example inputs.

    example: of times, weights and labels the least and the most that there are; its second row is the one whose
    multiply-adds are counted; scale: of rounding errors in its outputs, where something inside multiplies them;
    cost: where rows differ in it;
    may_tie: rounding may decide between classes of a row, which then differs from torch's.
    """

    file: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]
    scale: float = 1.0
    cost: Cost | None = None
    may_tie: bool = False


@dataclass(frozen=True)
class Networks:
    """All networks of a bundle, in evaluation mode on the CPU; without a generator the flow draws in one call."""

    autoencoder: AutoEncoder
    flow: Flow
    generator: Generator | None = None


def bundle_graphs(networks: Networks, sampler: SamplerOptions, reading: PosteriorRule) -> list[GraphSpec]:
    """The graphs of a bundle; sampler: how the flow draws where there is no generator."""
    autoencoder, flow = networks.autoencoder, networks.flow
    images, x = torch.rand(3, 1, 28, 28), torch.randn(3, *flow.latent_shape)
    t, labels = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0, 1, flow.null_label])
    encoded = ("latent", "kl") if autoencoder.variational else ("latent",)
    pixels = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    drawing = networks.generator or one_call_drawing(flow, autoencoder, sampler)
    classify = Classify(autoencoder, flow, reading)
    first = ReadOnce(autoencoder, flow, replace(reading, stages=reading.stages[:1]))
    return [
        drawing_graph(drawing, flow.latent_shape, flow.null_label, sampler.weight),
        GraphSpec(
            "classify.onnx",
            classify,
            ("image",),
            ("log_likelihood", "posterior"),
            (pixels,),
            max(1.0, sum(reading.bank.weights) / reading.temperature),
            Cost(
                once=ReadOnce(autoencoder, flow, replace(reading, settled=1.0)),
                runs=1 + len(reading.views) * reading.doubtful,
                least=first if reading.settled < 1 else None,
                whole=reading.unsettled,
            ),
            may_tie=True,
        ),
        GraphSpec("encoder.onnx", Encoder(autoencoder, flow), ("image",), encoded, (images,)),
        GraphSpec("decoder.onnx", Decoder(autoencoder, flow), ("latent",), ("image",), (x,)),
        GraphSpec("flow.onnx", flow, ("x", "t", "label"), ("velocity",), (x, t, labels)),
        GraphSpec("likelihood.onnx", Likelihood(flow), ("x", "t", "label"), ("velocity", "divergence"), (x, t, labels)),
    ]


class Encoder(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to standardised latents and, for a VAE, KL divergences (N,) in nats."""

    def __init__(self, autoencoder: AutoEncoder, flow: Flow) -> None:
        super().__init__()
        self.autoencoder, self.flow = autoencoder, flow

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        mean, log_variance = self.autoencoder.encode(images)
        latents = self.flow.standardise(mean)
        return (latents,) if log_variance is None else (latents, kl_divergence(mean, log_variance))


class Decoder(nn.Module):
    """Standardised latents to images (N, 1, 28, 28) in [0, 1]."""

    def __init__(self, autoencoder: AutoEncoder, flow: Flow) -> None:
        super().__init__()
        self.autoencoder, self.flow = autoencoder, flow

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(self.flow.unstandardise(latents))


class Likelihood(nn.Module):
    """Velocity and its exact divergence (N,)."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.velocity_and_divergence(x, t, labels)


def generator_graph(generator: Generator, weight: float) -> GraphSpec:
    """The one graph of a bundle that only generates; weight: the default one."""
    return drawing_graph(generator, generator.latent_shape, generator.label_embedding.num_embeddings, weight)


def drawing_graph(drawing: nn.Module, latent_shape: tuple[int, ...], classes: int, weight: float) -> GraphSpec:
    """generate.onnx, of what draws from noise, labels and guidance weights.

    weight: the default one, of the second row, which is what a row costs: rows that are not guided may cost less.
    """
    example = (
        torch.randn(3, *latent_shape),
        torch.tensor([0, 1, classes - 1]),
        torch.tensor([LEAST_WEIGHT, weight, MOST_WEIGHT]),
    )
    return GraphSpec("generate.onnx", Generate(drawing), ("noise", "label", "weight"), ("image",), example)
