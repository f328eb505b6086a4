"""``encode-dataset``: the latents that a flow trains on."""

from __future__ import annotations

from pathlib import Path

import torch

from commands.data import ensure_data
from commands.models import Choice, default_kind
from commands.progress import track
from commands.training_processes import torch_device
from runtime.datasets import Dataset
from training import latents
from training.paths import Version


def encode_dataset(choice: Choice, root: Path, output: Path | None, batch_size: int) -> str:
    """Encode a data set by the autoencoder that is chosen; returns a line that says where."""
    kind, device = choice.kind or default_kind(choice.dataset), torch_device(choice.device)
    return encode(choice.dataset, root, kind, choice.version, output, batch_size, device)


def encode(
    dataset: Dataset,
    root: Path,
    kind: str,
    version: Version,
    output: Path | None,
    batch_size: int,
    device: torch.device,
) -> str:
    """Encode a data set; returns a line that says where."""
    ensure_data(dataset, root)
    path = output or latents.path_of(dataset, root, kind)
    latents.encode_dataset(dataset, root, kind, version, path, batch_size, device, track)
    return f"{path}: latents of {dataset.model_name} by the {version} {kind}"
