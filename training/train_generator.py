"""Distil a flow, its sampler and its decoder into a generator that draws in one evaluation, and finish that."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker
from training import checkpoints, parallel, paths
from training.checkpoints import Checkpoint
from training.engine.batches import image_parts
from training.engine.loop import Job, Losses, Stateful, fit
from training.engine.runs import Task
from training.networks.autoencoders import AutoEncoder, pixels_of
from training.networks.blocks import channels_last
from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.networks.generators import LEAST_WEIGHT, MOST_WEIGHT, Generator
from training.objectives.finishing import Finishing
from training.objectives.losses import ReconstructionLoss
from training.objectives.perception import FeatureNetwork, frozen
from training.options import GeneratorObjective
from training.paths import Version, flow_name, generator_name

FEATURE_BATCH = 128
AT_DEFAULT = 0.5  # of the examples; the others' guidance weights are uniform


@dataclass(frozen=True)
class Teacher:
    """What a generator learns from, and the hashes by which it names it: of both checkpoints' files."""

    autoencoder: AutoEncoder
    flow: Flow
    sha256: list[str]


def load_teacher(dataset: datasets.Dataset, version: Version, kind: str, device: torch.device) -> Teacher:
    """The autoencoder and flow of a data set, of base size; CheckpointError where there is none, or they don't fit."""
    files = [checkpoints.existing(dataset.key, name, version) for name in (kind, flow_name(kind))]
    autoencoder, flow = checkpoints.load_fitting(files[0], files[1], len(dataset.classes), device)
    return Teacher(autoencoder.network, flow.network, [paths.sha256(file) for file in files])


def with_waves(initial: Checkpoint[Generator], wave_numbers: int) -> Checkpoint[Generator]:
    """The same generator with so many wave_numbers, where it has none; ValueError where it has others, or can't."""
    if initial.network.wave_numbers == wave_numbers:
        return initial
    if initial.network.wave_numbers:
        raise ValueError(f"the generator has {initial.network.wave_numbers} wave_numbers already")
    arguments = {**initial.arguments, "wave_numbers": wave_numbers}
    network = Generator(**arguments).to(initial.network.cosines.device)
    network.load_state_dict({**network.state_dict(), **initial.network.state_dict()})
    return Checkpoint(network, arguments, initial.description)


def train_generator(
    task: Task, kind: str, objective: GeneratorObjective, teacher: Teacher, initial: Checkpoint[Generator] | None = None
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: of the teacher's autoencoder; the teacher draws with the objective's sampler; initial: a checkpoint to go on
    from.
    """
    autoencoder, flow = teacher.autoencoder, teacher.flow
    dataset, options, track = task.dataset, task.options, task.track
    of_data = {"classes": len(dataset.classes), "latent_channels": flow.latent_shape[0]}
    identity = {"autoencoder": kind, **asdict(objective), "teacher": teacher.sha256}
    run = task.run(generator_name(kind), initial, identity, of_data)
    if run.is_complete():
        return run.checkpoint
    torch.manual_seed(options.seed)
    train, parts = image_parts(dataset, task.root, options.batch_size)
    network = initial.network if initial else Generator(**run.arguments)
    channels_last(network, options.device)
    state = run.state()
    drawing = Drawing(flow, channels_last(autoencoder, options.device), objective.sampler.deterministic())
    loss = GeneratorLoss(objective, drawing.requires_grad_(False).eval(), options.device)
    if state is None:
        images, labels = (tensor.to(options.device) for tensor in train.tensors)
        with options.autocast():
            loss.start(network, images, labels, track)
    fit(Job(network, train, loss, parts, loss.companions), run, state, track)
    parallel.wait()
    run.finish()
    return run.checkpoint


class GeneratorLoss:
    """What a generator minimises, an options.GeneratorObjective, with what learns beside it.

    It can be taken after `start`, or where its companions have a state.
    """

    def __init__(self, objective: GeneratorObjective, teacher: Drawing, device: torch.device) -> None:
        self._objective, self._teacher = objective, teacher
        classes = teacher.flow.null_label
        self._features = frozen(FeatureNetwork(classes), device)
        self._distance = ReconstructionLoss(self._features.features)
        self._finishing = Finishing(objective, classes, device) if objective.draws else None

    @property
    def companions(self) -> dict[str, Stateful]:
        """What a snapshot keeps of it."""
        parts: dict[str, Stateful | None] = {"features": self._features, "finishing": self._finishing}
        return {name: part for name, part in parts.items() if part is not None}

    def start(self, network: Generator, images: Tensor, labels: Tensor, track: Tracker) -> None:
        """Let learn what learns beside a generator, from real images uint8 (N, 1, 28, 28) and labels (N,)."""
        self._features.learn(images, labels, FEATURE_BATCH, track)
        if self._finishing is not None:
            self._finishing.start(lambda some: self.drawn(network, some), images, labels, track)

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        """Losses of a Generator for real images uint8 (N, 1, 28, 28) and labels (N,), whose classes it draws."""
        network, (images, labels) = cast(Generator, model), batch
        noise, weight = self._noise(labels), self._weights(labels)
        with torch.no_grad():
            wanted = self._teacher(network.repeated(noise), labels, weight[:, None])
        # No teacher tells what the waves' numbers do: learnt from one alone, they would do nothing, and so for ever.
        seen = noise if self._objective.draws else network.without_waves(noise)
        logits = network.logits(seen, labels, weight)
        losses = self._distance(logits, wanted, labels, training=False)
        losses["loss"] = self._objective.regression_weight * losses["reconstruction"]
        if self._finishing is not None and model.training:
            found = self._finishing(self.drawn(network, labels), images, labels)
            losses["loss"] = losses["loss"] + found.pop("drawing")
            losses |= found
        return losses

    def drawn(self, network: Generator, labels: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) at the sampler's own guidance weight."""
        weight = torch.full((len(labels),), self._objective.sampler.weight, device=labels.device)
        return pixels_of(network.logits(self._noise(labels), labels, weight))

    def _noise(self, labels: Tensor) -> Tensor:
        return parallel.randn(len(labels), labels.device, *self._teacher.flow.latent_shape)

    def _weights(self, labels: Tensor) -> Tensor:
        """Guidance weights (N,): the sampler's own for AT_DEFAULT of them."""
        any_weight = LEAST_WEIGHT + (MOST_WEIGHT - LEAST_WEIGHT) * parallel.rand(len(labels), labels.device)
        own = parallel.rand(len(labels), labels.device) < AT_DEFAULT
        return torch.where(own, self._objective.sampler.weight, any_weight)
