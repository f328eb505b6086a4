"""Finishing: what a flow draws through its few-step sampler and the decoder is pulled towards real images.

Five losses say where to: the Frechet distance and a kernel discrepancy in a classifier's features, the classes that it
reads (as an auxiliary classifier's in arXiv 1610.09585), the Frechet distance in features of fine detail, which
classifiers overlook, and a critic that learns to tell the images from real ones. The flow and the decoder learn from
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.tracking import Tracker, untracked
from training import parallel
from training.engine.loop import Stateful
from training.networks.drawing import Drawing
from training.objectives.adversary import Adversary, ImageCritic
from training.objectives.perception import EmbeddingNetwork, FineDetail, frozen, train_reader
from training.objectives.populations import FrechetLoss, KernelLoss
from training.options import FEATURE_STEPS, DrawingObjective

FEATURE_BATCH = 128  # of the classifier through whose features they are seen
FIRST_BATCHES, BATCH = 60, 256  # drawn before the first step
PART = 500  # images that are looked at together
Draw = Callable[[Tensor], Tensor]  # labels (N,) to images (N, 1, 28, 28) in [0, 1]
CRITIC_STEPS, CRITIC_BATCH = 300, 128  # of the critic, before it is asked


class RandomDrawing(nn.Module):
    """A drawing from noise of its own, whose flow and decoder learn; encoder and batch statistics are frozen."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.drawing = drawing
        drawing.autoencoder.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> RandomDrawing:
        super().train(mode)
        self.drawing.autoencoder.eval()
        return self

    def forward(self, labels: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) in [0, 1] drawn for labels (N,)."""
        noise = parallel.randn(len(labels), labels.device, *self.drawing.flow.latent_shape)
        return self.drawing(noise, labels, more_noise=lambda step: parallel.randn_like(noise))


class Finishing:
    """The losses of what is drawn, and all that learns beside it; they can be taken after `start` or `load_state_dict`.

    Every other judge is of another architecture, since what pleases a network need not please another.
    """

    def __init__(self, objective: DrawingObjective, classes: int, device: torch.device) -> None:
        """device: where all of it lies."""
        self._objective = objective
        self._learners: dict[str, Stateful] = {}
        self._observers: list[Observer | DetailObserver] = []
        self._adversaries: list[Adversary] = []
        if objective.frechet_weight or objective.kernel_weight or objective.reading_weight:
            for index in range(objective.judges):
                observer = Observer(objective, EmbeddingNetwork(classes, pooled=index % 2 == 1), device)
                self._observers.append(observer)
                self._learners |= {f"{name} {index}": each for name, each in observer.learners.items()}
        if objective.detail_weight:
            detail = DetailObserver(classes, device)
            self._observers.append(detail)
            self._learners |= detail.learners
        if objective.adversarial_weight:
            for index in range(objective.judges):
                self._adversaries.append(Adversary(ImageCritic(classes, strided=index % 2 == 1), device))
                self._learners[f"adversary {index}"] = self._adversaries[-1]

    def state_dict(self) -> dict[str, Any]:
        """All that a run would be another without."""
        return {name: learner.state_dict() for name, learner in self._learners.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        for name, learner in self._learners.items():
            learner.load_state_dict(state[name])

    def start(self, draw: Draw, images: Tensor, labels: Tensor, track: Tracker = untracked) -> None:
        """Let judges learn from real images, uint8 (N, 1, 28, 28), and critics from them and images drawn.

        These are drawn for some of the real ones' labels (N,); the first statistics are theirs.
        """
        for observer in self._observers:
            observer.learn(images, labels, track)
        with torch.no_grad(), parallel.alone():
            self._start(draw, images, labels, track)
        parallel.same(self.state_dict())

    def _start(self, draw: Draw, images: Tensor, labels: Tensor, track: Tracker) -> None:
        if self._observers:
            rows = torch.randint(len(labels), (FIRST_BATCHES, BATCH), device=labels.device)
            drawn = [draw(labels[each]) for each in track(rows, FIRST_BATCHES, "drawing")]
            for observer in self._observers:
                observer.start(torch.cat(drawn), images[rows.flatten()], labels[rows.flatten()])
        if self._adversaries:
            rows = torch.randint(len(labels), (CRITIC_STEPS, CRITIC_BATCH), device=labels.device)
            for each in track(rows, CRITIC_STEPS, "critic"):
                real, generated = images[each].float() / 255, draw(labels[each])
                for adversary in self._adversaries:
                    adversary.learn(real, generated, labels[each])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, drawn: Tensor, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars for images drawn, (N, 1, 28, 28) in [0, 1], and real ones, uint8, of the same labels (N,).

        "frechet", "kernel", "reading", "detail" and "adversarial", where they have weight, and "drawing": the sum, with
        their weights.
        """
        real = images.float() / 255
        found = [observer(drawn, real, labels) for observer in self._observers]
        found += [{"adversarial": adversary.loss(real, drawn, labels)} for adversary in self._adversaries]
        names = dict.fromkeys(name for each in found for name in each)
        losses = {name: torch.stack([each[name] for each in found if name in each]).mean() for name in names}
        weighted = [getattr(self._objective, f"{name}_weight") * loss for name, loss in losses.items()]
        return losses | {"drawing": torch.stack(weighted).sum()}


class Observer:
    """Looks at images through a classifier, once for all losses that are taken there."""

    def __init__(self, objective: DrawingObjective, features: EmbeddingNetwork, device: torch.device) -> None:
        self._features, self._reads = frozen(features, device), objective.reading_weight > 0
        self._steps = objective.judge_steps or FEATURE_STEPS
        self._thorough = objective.judge_steps > 0
        self._frechet: FrechetLoss | None = None
        self._kernel: KernelLoss | None = None
        if objective.frechet_weight:
            self._frechet = FrechetLoss(features.classes, device, objective.frechet_spread)
        if objective.kernel_weight:
            self._kernel = KernelLoss(device)

    @property
    def learners(self) -> dict[str, Stateful]:
        """What a run would be another without."""
        parts: dict[str, Stateful | None] = {
            "features": self._features, "frechet": self._frechet, "kernel": self._kernel
        }  # fmt: skip
        return {name: part for name, part in parts.items() if part is not None}

    def learn(self, images: Tensor, labels: Tensor, track: Tracker) -> None:
        """Learn to classify all real images, uint8 (N, 1, 28, 28), and take their statistics."""
        train_reader(self._features, images, labels, self._steps, FEATURE_BATCH, track, self._thorough)
        if self._frechet is not None:
            self._frechet.aim_at(self._all(images, track), labels)

    def start(self, drawn: Tensor, images: Tensor, labels: Tensor) -> None:
        """Take the first statistics of images drawn, in [0, 1], beside real ones, uint8, of the same labels (N,)."""
        found = torch.cat([self._features.embed(part) for part in drawn.split(PART)]).float()
        if self._frechet is not None:
            self._frechet.start(found, labels)
        if self._kernel is not None:
            self._kernel.start(found, self._all(images), labels)

    def __call__(self, drawn: Tensor, real: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of images drawn beside real ones, (N, 1, 28, 28) in [0, 1], of the same labels (N,)."""
        found, losses = self._features.embed(drawn), {}
        if self._frechet is not None:
            losses["frechet"] = self._frechet(found, labels)
        if self._kernel is not None:
            losses["kernel"] = self._kernel(found, self._features.embed(real), labels)
        if self._reads:
            losses["reading"] = F.cross_entropy(self._features.head(found), labels)
        return losses

    def _all(self, images: Tensor, track: Tracker = untracked) -> Tensor:
        return _features_of(images, self._features.embed, "real features", track)


class DetailObserver:
    """Looks at what is fine in images."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._features, self._frechet = FineDetail().to(device), FrechetLoss(classes, device)

    @property
    def learners(self) -> dict[str, Stateful]:
        """As an Observer's."""
        return {"detail features": self._features, "detail": self._frechet}

    def learn(self, images: Tensor, labels: Tensor, track: Tracker) -> None:
        """Take the statistics of all real images, uint8 (N, 1, 28, 28)."""
        measured = _features_of(images, self._features.measured, "real detail", track)
        self._features.set_statistics(measured)
        self._frechet.aim_at(self._features.standardise(measured), labels)

    def start(self, drawn: Tensor, images: Tensor, labels: Tensor) -> None:
        """As an Observer's."""
        self._frechet.start(torch.cat([self._features(part) for part in drawn.split(PART)]), labels)

    def __call__(self, drawn: Tensor, real: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """As an Observer's."""
        return {"detail": self._frechet(self._features(drawn), labels)}


def _features_of(images: Tensor, features: Callable[[Tensor], Tensor], name: str, track: Tracker) -> Tensor:
    """Features of images, uint8, a PART at a time, float32 whatever they are computed in; name: for progress."""
    parts = images.split(PART)
    return torch.cat([features(part.float() / 255).float() for part in track(parts, len(parts), name)])
