"""Checkpoints: safetensors files that carry what is needed to rebuild their network.

Metadata is JSON: the network's class, its constructor's arguments, a description. Nothing in the file is code.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from runtime.errors import ToolkitError
from training.autoencoders import AutoEncoder, VarAutoEncoder
from training.flows import Flow
from training.paths import checkpoint_path, log_path
from training.perception import FeatureNetwork

FORMAT = 1
NETWORKS: dict[str, type[nn.Module]] = {
    network.__name__: network for network in (AutoEncoder, VarAutoEncoder, Flow, FeatureNetwork)
}
AUTOENCODERS: dict[str, type[AutoEncoder]] = {"autoencoder": AutoEncoder, "vae": VarAutoEncoder}


class CheckpointError(ToolkitError):
    """A checkpoint is missing, damaged, or does not fit the others."""


@dataclass(frozen=True)
class Checkpoint:
    """A network with the arguments that build it and a description of its training (JSON values)."""

    network: nn.Module
    arguments: dict[str, Any]
    description: dict[str, Any]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint aside and rename it, so that `path` is always whole."""
    metadata = {
        "format": FORMAT,
        "network": type(checkpoint.network).__name__,
        "arguments": checkpoint.arguments,
        "description": checkpoint.description,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, aside, {key: json.dumps(value) for key, value in metadata.items()})
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Rebuild the network of a checkpoint, in evaluation mode.

    Raises CheckpointError where the file is missing, damaged or of another format.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if metadata["format"] > FORMAT:
            raise CheckpointError(f"{path} has format {metadata['format']}; this version reads up to {FORMAT}")
        network = NETWORKS[metadata["network"]](**metadata["arguments"])
        network.load_state_dict(tensors)
        checkpoint = Checkpoint(network.to(device).eval(), metadata["arguments"], metadata["description"])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    return checkpoint


def promote(dataset_key: str, name: str) -> Path:
    """Make the dev checkpoint the main one, with its log; returns its path."""
    source, target = checkpoint_path(dataset_key, "dev", name), checkpoint_path(dataset_key, "main", name)
    target.parent.mkdir(parents=True, exist_ok=True)
    for old, new in ((source, target), (log_path(source), log_path(target))):
        aside = new.with_name(f".{new.name}.{os.getpid()}")
        shutil.copyfile(old, aside)
        aside.replace(new)
    return target


def constructor_arguments(network: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The arguments a user may give to a network: those that the data do not decide."""
    decided_by_data = {"classes", "latent_channels", "latent_size"} if network is Flow else set()
    parameters = inspect.signature(network, eval_str=True).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in decided_by_data}


def parse_argument(parameter: inspect.Parameter, text: str) -> int | str:
    """A constructor argument from its text; raises ValueError, which says what would be right."""
    choices = get_args(parameter.annotation)
    if choices:
        if text not in choices:
            raise ValueError(f"--{parameter.name} is one of {', '.join(choices)}, not {text!r}")
        return text
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"--{parameter.name} is a whole number, not {text!r}") from None
    least = 0 if parameter.name == "n_heads" else 1
    if value < least:
        raise ValueError(f"--{parameter.name} is at least {least}, not {value}")
    return value
