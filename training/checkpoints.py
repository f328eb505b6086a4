"""Checkpoints: safetensors files that carry what is needed to rebuild their network.

Metadata is JSON: the network's class, its constructor's arguments, a description. Nothing in the file is code.
"""

from __future__ import annotations

import inspect
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn

from runtime.errors import ToolkitError, one_line
from runtime.files import written_aside
from training import tensor_files
from training.networks.autoencoders import AutoEncoder, VarAutoEncoder
from training.networks.blocks import Network
from training.networks.classifiers import Classifier
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.options import DRAWING_WEIGHTS, SamplerOptions
from training.paths import DECODER, Version, checkpoint_path, log_path

FORMAT = 1
NETWORKS: dict[str, type[nn.Module]] = {
    network.__name__: network for network in (AutoEncoder, VarAutoEncoder, Flow, Generator, Classifier)
}


class CheckpointError(ToolkitError):
    """A checkpoint is missing, damaged, or does not fit the others."""


@dataclass(frozen=True)
class Checkpoint(Generic[Network]):
    """A network with the arguments that build it and a description of its training (JSON values)."""

    network: Network
    arguments: dict[str, Any]
    description: dict[str, Any]


def save(checkpoint: Checkpoint[Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all, with every constructor argument, given or default."""
    network = type(checkpoint.network)
    defaults = {name: parameter.default for name, parameter in inspect.signature(network).parameters.items()}
    metadata = {
        "format": FORMAT,
        "network": network.__name__,
        "arguments": defaults | checkpoint.arguments,
        "description": checkpoint.description,
    }
    tensor_files.write(path, checkpoint.network.state_dict(), metadata)


def load(path: Path, expected: type[Network], device: torch.device | str = "cpu") -> Checkpoint[Network]:
    """Rebuild the network of a checkpoint, in evaluation mode.

    Raises CheckpointError where the file is missing, of a newer format, or holds another kind of network, and
    TensorFileError where it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    tensors, metadata = tensor_files.read(path)
    try:
        if metadata["format"] > FORMAT:
            raise CheckpointError(f"{path} has format {metadata['format']}; this version reads up to {FORMAT}")
        description = metadata["description"]
        network = NETWORKS[metadata["network"]](**metadata["arguments"])
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} holds no network of this version: {one_line(error)}") from error
    if not isinstance(network, expected):
        raise CheckpointError(f"{path} holds a network {metadata['network']}, not {expected.__name__}")
    return Checkpoint(network.to(device).eval(), metadata["arguments"], description)


def load_fitting(
    autoencoder: Path, flow: Path, classes: int, device: torch.device | str = "cpu"
) -> tuple[Checkpoint[AutoEncoder], Checkpoint[Flow]]:
    """The checkpoints of an autoencoder and a flow of so many classes that go together.

    CheckpointError, beside what `load` raises, for a flow of other classes, one that learnt latents of another encoder,
    or one that was finished with another decoder.
    """
    found, of_flow = load(autoencoder, AutoEncoder, device), load(flow, Flow, device)
    check_classes(of_flow, flow, classes)
    if of_flow.description["encoder_sha256"] != encoder_sha256(found.network):
        raise CheckpointError(
            f"{flow} was trained on latents of another encoder than {autoencoder} has: "
            "take the one it was trained with, or encode the data set again and train the flow on it"
        )
    if drawn_with(of_flow) not in (None, draws_for(found)):
        raise CheckpointError(
            f"{flow} was finished with another decoder than {autoencoder} has: take both of one version"
        )
    return found, of_flow


def encoder_sha256(autoencoder: AutoEncoder) -> str:
    """The hash by which latents, and the flows that learn them, name the encoder they came from."""
    return sha256_of(autoencoder.encoder)


def sha256_of(network: nn.Module) -> str:
    """The hash of a network's weights."""
    return tensor_files.checksum({name: tensor.cpu() for name, tensor in network.state_dict().items()}, {})


def promote(model: str, name: str) -> Path:
    """Make the dev checkpoint the main one, with its log; returns its path."""
    return _copy(checkpoint_path(model, "dev", name), checkpoint_path(model, "main", name))


def adopt(other: str, model: str, name: str) -> Path:
    """Make another model's main checkpoint this one's dev checkpoint, with its log; returns its path."""
    return _copy(existing(other, name), checkpoint_path(model, "dev", name))


def existing(model: str, name: str, version: Version = "main") -> Path:
    """Where a model's checkpoint lies; CheckpointError where there is none."""
    path = checkpoint_path(model, version, name)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: train {model} first")
    return path


def goes_on_from(other: str, model: str, name: str) -> bool:
    """Whether this model's dev checkpoint is the other's main one, or of trainings that went on from it."""
    files = checkpoint_path(other, "main", name), checkpoint_path(model, "dev", name)
    if not all(path.is_file() for path in files):
        return False
    first, found = (load(path, nn.Module).description for path in files)
    while found and found != first:
        found = found.get("before", {})
    return found == first


def check_classes(checkpoint: Checkpoint[Any], path: Path, count: int) -> None:
    """CheckpointError where a flow, a generator or a classifier of so many classes is needed and this is none."""
    found = checkpoint.arguments.get("classes")
    if found != count:
        raise CheckpointError(f"{path} is of {found} classes, where there are {count}")


def sampler_of(flow: Checkpoint[Flow]) -> SamplerOptions:
    """How a flow was drawn when it last was finished, or else was told to be."""
    return SamplerOptions(**(_finishing(flow) or flow.description).get("sampler", {}))


def drawn_with(flow: Checkpoint[Flow]) -> Any:
    """What the last epoch came to in which a flow drew, as the decoder that then learnt, too, says it; None: never."""
    return _finishing(flow).get("last_epoch")


def draws_for(autoencoder: Checkpoint[AutoEncoder]) -> Any:
    """What `drawn_with` says of a flow that goes with this decoder, or with the one whose drawing it learnt."""
    told = autoencoder.description
    while told.get("model") == DECODER:
        told = told.get("before", {})
    return told.get("last_epoch")


def _finishing(flow: Checkpoint[Flow]) -> dict[str, Any]:
    """The description of the last training in which a flow drew; {} where there was none."""
    told = flow.description
    while told and not any(told.get(name) for name in DRAWING_WEIGHTS):
        told = told.get("before", {})
    return told


def _copy(source: Path, target: Path) -> Path:
    """Copy a checkpoint, and its log where it has one of its own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for old, new in ((source, target), (log_path(source), log_path(target))):
        if old == source or old.is_file():
            with written_aside(new) as aside:
                shutil.copyfile(old, aside)
    return target
