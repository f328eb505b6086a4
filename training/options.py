"""How to train: what the command line and recipes say of a run, whatever the network. Importing it needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from runtime.sampling import Solver, diffusion_of, time_grid
from training.paths import Bits

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw", "soap"]
FEATURE_STEPS = 1500  # for which a judge learns, where nothing else is said


@dataclass(frozen=True)
class SamplerOptions:
    """How a flow's samples are drawn; see runtime.settings.Sampling. What is exported becomes the bundle's defaults."""

    sampler: Solver = "heun"
    steps: int = 4
    weight: float = 1.3
    guidance_start: float = 0.0
    diffusion: float | None = None  # the solver's own, where None

    @property
    def spread(self) -> float:
        """The diffusion that it has."""
        return diffusion_of(self.sampler, self.diffusion)

    def times(self) -> list[float]:
        """The solver's."""
        return time_grid(self.steps)

    def deterministic(self) -> SamplerOptions:
        """The same without diffusion, which takes no noise but the first."""
        return replace(self, diffusion=0.0, sampler="ode" if self.sampler == "sde" else self.sampler)


def changed(way: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SamplerOptions with what is given instead; the diffusion is not another solver's."""
    own = {"diffusion": None} if given.get("sampler", way["sampler"]) != way["sampler"] else {}
    return {**way, **own, **given}


@dataclass(frozen=True)
class AutoencoderObjective:
    """What latents cost beside the reconstruction.

    alpha: weight of a VAE's KL divergence; class_weight: of how badly a small classifier reads them.
    """

    alpha: float = 0.2
    class_weight: float = 0.0


@dataclass(frozen=True)
class DrawingObjective:
    """What whole images cost that are drawn with a sampler.

    frechet_weight, kernel_weight, reading_weight, detail_weight and adversarial_weight: of their Frechet distance to
    real images, of their kernel discrepancy, of how badly their classes are read, of the Frechet distance of their fine
    detail, and of a critic that tells them from real ones;
    frechet_spread: the variance within a class that the first one aims at, over that of real images;
    judges: networks by which the first three are taken, and critics, of which the mean counts;
    judge_steps: for which those networks learn moved images at a falling rate (0: briefly, images as they are).
    """

    frechet_weight: float = 0.0
    frechet_spread: float = 1.0
    kernel_weight: float = 0.0
    reading_weight: float = 0.0
    detail_weight: float = 0.0
    adversarial_weight: float = 0.0
    judges: int = 1
    judge_steps: int = 0
    sampler: SamplerOptions = field(default_factory=SamplerOptions)

    @property
    def draws(self) -> bool:
        """Whether the loss takes images drawn with the sampler."""
        return any(getattr(self, name) for name in DRAWING_WEIGHTS)


DRAWING_WEIGHTS = tuple(each.name for each in fields(DrawingObjective) if each.name.endswith("_weight"))


@dataclass(frozen=True)
class FlowObjective(DrawingObjective):
    """What a flow minimises beside the flow matching loss, and on which latents.

    sample_latents: draws from each image's distribution rather than its mean; class_weight: of the cross-entropy of
    its posterior by the denoising rule; pairs: how many (t, noise) that rule has. Where it draws, the decoder learns,
    too. A flow with all weights 0 is trained generatively only.
    """

    sample_latents: bool = False
    class_weight: float = 0.0
    pairs: int = 64


@dataclass(frozen=True)
class GeneratorObjective(DrawingObjective):
    """What a generator minimises; regression_weight: of the distance of its images to those that the sampler draws."""

    regression_weight: float = 1.0


def cosine(share: float) -> float:
    """The part of a learning rate that is left after a share of a training, which falls from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass(frozen=True)
class Options:
    """How a network learns, whatever its loss: `train` has a flag for each.

    lr: the rate at first, multiplied by gamma at each of milestones or, without these, falling to 0 along a cosine;
    batch_size: of the joined batch, where several processes train together;

    optimizer: of the network, torch's AdamW or soap.Soap; critics and probes have Adam;
    precision: of matrix products and convolutions, while weights stay float32; compile: by torch.compile;
    ema_decay, initial_share: of the weights that are kept, see averages.WeightAverage;
    quantize: bits of the weights that are kept, which learn with that, see rounding.Rounding (None: all of float32's);
    clip: norm to which longer gradients are shortened (0: none are);
    shift: pixels by which training images are moved at most, an autoencoder's, a classifier's, and those by which a
    flow learns to classify;
    distort: radians by which they are turned at most, and the share by which they are sheared and scaled;
    patience: stop after so many epochs without a better validation loss, and keep the best epoch (0: never);
    resume: go on from the snapshot of an interrupted run.
    """

    lr: float = 1e-3
    total_epochs: int = 10
    batch_size: int = 128
    milestones: tuple[int, ...] = ()
    gamma: float = 0.2
    seed: int = 0
    num_workers: int = 0
    ema_decay: float = 0.999
    initial_share: float = 0.0
    optimizer: Optimizer = "adamw"
    precision: Precision = "float32"
    compile: bool = False
    quantize: Bits | None = None
    clip: float = 0.0
    shift: int = 0
    distort: float = 0.0
    patience: int = 0
    resume: bool = False
    device: torch.device = field(default_factory=_cpu)

    @property
    def augments(self) -> bool:
        """Whether training images are changed at random."""
        return bool(self.shift or self.distort)

    def learning_rate(self, epoch: float) -> float:
        """Without milestones a cosine that ends at zero; with them a factor gamma at each."""
        if self.milestones:
            return self.lr * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return self.lr * cosine(epoch / self.total_epochs)

    def autocast(self) -> torch.autocast:
        """Within it matrix products and convolutions have the precision, and weights may learn: none is kept cast."""
        import torch

        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)

    def described(self) -> dict[str, object]:
        """What decides the result, as JSON values."""
        others = {"num_workers", "resume", "device"}
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in others}
        return found | {"milestones": list(self.milestones)}
