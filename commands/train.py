"""``train``: one network, from the flags or from a stage of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from commands import networks
from commands.click_extras import as_usage_errors
from commands.data import ensure_data
from commands.models import default_kind
from commands.options import SAMPLING, take_dataset
from commands.progress import note, track
from commands.training_options import LOSS, RUN, check_together
from commands.training_processes import agreed
from runtime.datasets import Dataset
from runtime.tracking import untracked
from training import checkpoints, latents, parallel, paths
from training.checkpoints import Checkpoint
from training.engine.runs import Task
from training.networks.autoencoders import AUTOENCODERS, AutoEncoder
from training.networks.blocks import Network
from training.networks.classifiers import Classifier
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.options import AutoencoderObjective, FlowObjective, GeneratorObjective, Options, SamplerOptions
from training.paths import CLASSIFIER, DECODER, KINDS, Version, flow_name, generator_name
from training.train_autoencoder import train_autoencoder
from training.train_classifier import train_classifier
from training.train_decoder import train_decoder
from training.train_flow import Given, takes_autoencoder, train_flow
from training.train_generator import load_teacher, train_generator, with_waves

Objective = TypeVar("Objective", AutoencoderObjective, FlowObjective, GeneratorObjective)


@dataclass(frozen=True)
class Training:
    """One network to train: what, on what, and from where."""

    dataset: Dataset
    root: Path
    model: str  # "autoencoder", "vae", "flow", "generator", "classifier" or "decoder"
    options: Options
    network: Mapping[str, Any] = field(default_factory=dict)  # arguments of a new one's constructor
    initial: Version | None = None
    teacher_version: Version = "main"  # of what a generator, or a decoder, learns from
    classifier_version: Version | None = None  # of what a flow learns classes from, rather than labels
    autoencoder: str | None = None  # whose latents a flow learns, beside whose flow a generator, or whose decoder
    latents: Path | None = None
    loss: Mapping[str, Any] = field(default_factory=dict)  # of its objective, but for what that has by default

    @classmethod
    def from_flags(cls, given: Mapping[str, Any], network: Sequence[str], device: torch.device) -> Training:
        """What the flags of `train` ask for; network: its further words, --NAME VALUE for the constructor.

        UsageError for what lacks another flag, and for what the network does not take.
        """
        check_together(given, given["model"], going_on=given["model_version"] is not None)
        training = cls(
            take_dataset(dict(given)),
            options=Options(device=device, **{name: given[name] for name in RUN}),
            initial=given["model_version"],
            loss={name: given[name] for name in LOSS}
            | {"sampler": SamplerOptions(**{name: given[name] for name in SAMPLING})},
            **{name: given[name] for name in cls._of_flags()},
        )
        decided = {}
        if training.model == "generator":
            networks.check_weight(given["weight"])
            decided = networks.decided_by_teacher(training.dataset.key, training.kind, training.teacher_version)
        arguments = networks.arguments_of(training.model, network, training.initial is not None, decided)
        return replace(training, network=arguments)

    @classmethod
    def _of_flags(cls) -> list[str]:
        """The fields that are flags of `train` as they are."""
        others = {"dataset", "options", "network", "initial", "loss"}
        return [each.name for each in fields(cls) if each.name not in others]

    def objective(self, of: type[Objective]) -> Objective:
        """What a network minimises that has an objective of this type."""
        names = {each.name for each in fields(of)}
        return of(**{name: value for name, value in self.loss.items() if name in names})

    @cached_property
    def kind(self) -> str:
        """The autoencoder that is trained, or of what is trained."""
        return self.model if self.model in AUTOENCODERS else self.autoencoder or default_kind(self.dataset)

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        names = {"flow": flow_name(self.kind), "generator": generator_name(self.kind), DECODER: self.kind}
        return names.get(self.model, self.model)

    @property
    def latents_path(self) -> Path:
        return self.latents or latents.path_of(self.dataset, self.root, self.kind)


def train(training: Training, promote: bool | None) -> str:
    """Train one network and, where the user agrees, make its checkpoint the main one; returns a line."""
    path = _train(training)
    with_decoder = training.model == "flow" and training.objective(FlowObjective).draws
    if promote is None:
        both = f"{training.kind} and {training.name}" if with_decoder else training.name
        promote = agreed(f"Replace the main {both} of {training.dataset.model_name} by this training's?")
    if promote and parallel.is_first():
        if training.model == DECODER or (training.model == "flow" and not with_decoder):
            _check_fits_main(training, path)
        if with_decoder:
            checkpoints.promote(training.dataset.model_name, training.kind)
        path = checkpoints.promote(training.dataset.model_name, training.name)
    parallel.wait()
    epochs = f"{training.options.total_epochs} epochs" + (" at most" if training.options.patience else "")
    return f"{path}: {training.name} of {training.dataset.model_name}, {epochs}"


def _check_fits_main(training: Training, path: Path) -> None:
    """CheckpointError where a flow goes with another autoencoder than the main one, or the other way round."""
    names = training.kind, flow_name(training.kind)
    autoencoder, flow = (path if name == training.name else _path(training, "main", name) for name in names)
    if autoencoder.is_file() and flow.is_file():
        checkpoints.load_fitting(autoencoder, flow, len(training.dataset.classes))


def _train(training: Training) -> Path:
    """The dev checkpoint of a new network, or of one that goes on."""
    dataset, root, kind, options = training.dataset, training.root, training.kind, training.options
    show = track if parallel.is_first() else untracked
    task = Task(dataset, root, dict(training.network), options, click.echo, show)
    if training.model == "flow":
        objective, given = training.objective(FlowObjective), _given_to_flow(training)
        return train_flow(task, kind, training.latents_path, objective, given)
    _ensure_data(training)
    if training.model == "generator":
        teacher = load_teacher(dataset, training.teacher_version, kind, options.device)
        initial = _initial(training, training.name, Generator)
        if initial is not None and training.network:
            with as_usage_errors():
                initial = with_waves(initial, **training.network)
        return train_generator(task, kind, training.objective(GeneratorObjective), teacher, initial)
    if training.model == DECODER:
        own, of_flow = (_path(training, training.teacher_version, name) for name in (kind, flow_name(kind)))
        both = checkpoints.load_fitting(own, of_flow, len(dataset.classes), options.device)
        return train_decoder(task, kind, *both)
    if training.model == CLASSIFIER:
        return train_classifier(task, _initial(training, training.name, Classifier))
    initial_autoencoder = _initial(training, training.name, AUTOENCODERS[training.model])
    return train_autoencoder(task, kind, training.objective(AutoencoderObjective), initial_autoencoder)


def _ensure_data(training: Training) -> None:
    """Have the data set, which one of the processes downloads where it is missing."""
    if parallel.is_first():
        ensure_data(training.dataset, training.root)
    parallel.wait()


def _given_to_flow(training: Training) -> Given:
    objective, with_classifier = training.objective(FlowObjective), training.classifier_version
    initial, autoencoder, classifier = _initial(training, training.name, Flow), None, None
    if takes_autoencoder(objective, training.options, with_classifier is not None):
        _ensure_data(training)
        autoencoder = _initial(training, training.kind, AutoEncoder)
    if with_classifier is not None:
        classifier = _load(training, with_classifier, CLASSIFIER, Classifier)
    return Given(initial, autoencoder, classifier)


def _initial(training: Training, name: str, network: type[Network]) -> Checkpoint[Network] | None:
    """What the training of a network goes on from, if anything."""
    if training.initial is None:
        return None
    if parallel.is_first():
        note(f"going on from {_path(training, training.initial, name)}")
    return _load(training, training.initial, name, network)


def _load(training: Training, version: Version, name: str, network: type[Network]) -> Checkpoint[Network]:
    path = _path(training, version, name)
    found = checkpoints.load(path, network, training.options.device)
    if name not in KINDS:
        checkpoints.check_classes(found, path, len(training.dataset.classes))
    return found


def _path(training: Training, version: Version, name: str) -> Path:
    return paths.checkpoint_path(training.dataset.model_name, version, name)
