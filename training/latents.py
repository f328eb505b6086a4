"""Encoded data sets: what a flow trains on.

One ``ROOT/DATASET/latents/MODEL-AUTOENCODER.safetensors`` for each autoencoder of each model: means, log-variances
where it has them, and labels for the parts train, validation and test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from runtime import datasets
from runtime.errors import DataError, MissingDataError
from runtime.tracking import Tracker, untracked
from training import checkpoints, paths, tensor_files
from training.networks.autoencoders import AutoEncoder, deviation
from training.paths import Version


@dataclass(frozen=True)
class LatentPart:
    """Means float32 (N, C, 7, 7), log-variances likewise or None, labels int64 (N,)."""

    mean: Tensor
    log_variance: Tensor | None
    labels: Tensor

    @property
    def deviation(self) -> Tensor:
        """Standard deviations of the latents, like the means; 0 where the encoder is deterministic."""
        return deviation(self.mean, self.log_variance)

    def sample(self) -> Tensor:
        """A draw from each latent's distribution."""
        return self.mean + self.deviation * torch.randn_like(self.mean)


@dataclass(frozen=True)
class Latents:
    """The parts of an encoded data set, and which encoder made it (checkpoints.encoder_sha256)."""

    parts: dict[datasets.Part, LatentPart]
    encoder_sha256: str


def path_of(dataset: datasets.Dataset, root: Path, kind: str) -> Path:
    """Where the latents of the autoencoder `kind` lie."""
    return dataset.folder(root) / "latents" / f"{dataset.model_name}-{kind}.safetensors"


def encode_dataset(
    dataset: datasets.Dataset,
    root: Path,
    kind: str,
    version: Version,
    output: Path,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    track: Tracker = untracked,
) -> None:
    """Encode all parts of a data set with a trained autoencoder into the file `output`.

    Raises DataError where that would replace something other than latents.
    """
    _check_replaceable(output)
    checkpoint = paths.checkpoint_path(dataset.model_name, version, kind)
    model = checkpoints.load(checkpoint, AutoEncoder, device).network
    tensors: dict[str, Tensor] = {}
    for part in datasets.PARTS:
        data = datasets.load(dataset, root, part)
        encoded = _encode(model, torch.from_numpy(data.images)[:, None], batch_size, device, track, part)
        for name, tensor in zip(("mean", "log_variance"), encoded, strict=True):
            if tensor is not None:
                tensors[f"{part}.{name}"] = tensor
        tensors[f"{part}.labels"] = torch.from_numpy(data.labels)
    source = {"dataset": dataset.key, "encoder_sha256": checkpoints.encoder_sha256(model)}
    tensor_files.write(output, tensors, {"source": source})


def load(path: Path, dataset: datasets.Dataset) -> Latents:
    """Read the encoded data set.

    Raises MissingDataError where it is not there, TensorFileError where it is damaged, and DataError where it is of
    another data set.
    """
    if not path.is_file():
        raise MissingDataError(f"there are no latents at {path}: make them with encode-dataset")
    tensors, metadata = tensor_files.read(path)
    try:
        source = metadata["source"]
        parts = {
            part: LatentPart(tensors[f"{part}.mean"], tensors.get(f"{part}.log_variance"), tensors[f"{part}.labels"])
            for part in datasets.PARTS
        }
        found, encoder = source["dataset"], source["encoder_sha256"]
    except KeyError as error:
        raise DataError(f"{path} holds no latents: it lacks {error}") from error
    if found != dataset.key:
        raise DataError(f"{path} holds latents of {found}, not of {dataset.key}")
    return Latents(parts, encoder)


def _check_replaceable(path: Path) -> None:
    try:
        replaceable = not path.exists() or "source" in tensor_files.read(path)[1]
    except tensor_files.TensorFileError:
        replaceable = False
    if not replaceable:
        raise DataError(f"{path} holds no latents: it is left as it is")


@torch.no_grad()
def _encode(
    model: AutoEncoder, images: Tensor, batch_size: int, device: torch.device | str, track: Tracker, label: str
) -> tuple[Tensor, Tensor | None]:
    means, log_variances = [], []
    batches = images.split(batch_size)
    for batch in track(batches, len(batches), f"encoding {label}"):
        mean, log_variance = model.encode(batch.to(device).float() / 255)
        means.append(mean.cpu())
        if log_variance is not None:
            log_variances.append(log_variance.cpu())
    return torch.cat(means), torch.cat(log_variances) if log_variances else None
