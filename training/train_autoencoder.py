"""Train an autoencoder or VAE on the images of a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker, untracked
from training import checkpoints, paths
from training.adversary import Adversary
from training.autoencoders import AutoEncoder
from training.checkpoints import AUTOENCODERS, Checkpoint
from training.loop import Losses, Options, TensorRows, fit, mean_losses
from training.losses import ReconstructionLoss, autoencoder_losses
from training.perception import train_feature_network
from training.records import EpochLog, describe

FEATURE_EPOCHS = 2
ADVERSARY_STARTS = 0.2  # of all steps
TEST_BATCH = 500


def train_autoencoder(
    dataset: datasets.Dataset,
    root: Path,
    kind: str,
    arguments: dict[str, Any],
    alpha: float,
    options: Options,
    initial: Checkpoint[AutoEncoder] | None = None,
    report: Callable[[str], None] = print,
    track: Tracker = untracked,
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: "autoencoder" or "vae"; arguments: its constructor's; alpha: weight of the KL divergence;
    initial: a checkpoint to go on from, whose arguments then count.
    """
    torch.manual_seed(options.seed)
    train, test = (_images(datasets.load(dataset, root, part)) for part in ("train", "test"))
    report(f"learning what looks alike: a classifier of {dataset.key}, {FEATURE_EPOCHS} epochs")
    images, labels = (tensor.to(options.device) for tensor in train.tensors)
    steps = max(1, FEATURE_EPOCHS * len(images) // options.batch_size)
    features = train_feature_network(images, labels, len(dataset.classes), steps, options.batch_size, track)
    del images, labels

    if initial is not None:
        arguments = initial.arguments
    network = (initial.network if initial else AUTOENCODERS[kind](**arguments)).to(options.device)
    warm_up = int(ADVERSARY_STARTS * options.total_epochs * (len(train) // options.batch_size))
    reconstruction = ReconstructionLoss(features.features, Adversary(options.device, warm_up))

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        return autoencoder_losses(cast(AutoEncoder, model), batch[0].float() / 255, alpha, reconstruction)

    path = paths.checkpoint_path(dataset.key, "dev", kind)
    log = EpochLog(path, report)

    def on_epoch(average: nn.Module, record: dict[str, Any]) -> None:
        description = describe(dataset, options, record, alpha=alpha)
        checkpoints.save(Checkpoint(average, arguments, description), path)
        log.write(record)

    fit(
        network,
        train,
        losses_of,
        lambda average: mean_losses(average, test, losses_of, TEST_BATCH, options.device),
        options,
        on_epoch,
        track,
    )
    return path


def _images(data: datasets.LabelledImages) -> TensorRows:
    return TensorRows(torch.from_numpy(data.images)[:, None], torch.from_numpy(data.labels))
