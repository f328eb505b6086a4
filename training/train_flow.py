"""Train a flow on an encoded data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker, untracked
from training import calibration, checkpoints, latents, paths
from training.checkpoints import Checkpoint, CheckpointError
from training.flows import Flow
from training.loop import Losses, Options, TensorRows, fit, mean_losses
from training.losses import flow_matching_loss
from training.paths import flow_name
from training.records import EpochLog, describe, in_words

LABEL_DROPOUT = 0.1
TEST_BATCH = 5000


def train_flow(
    dataset: datasets.Dataset,
    latents_path: Path,
    kind: str,
    arguments: dict[str, Any],
    options: Options,
    sample_latents: bool = False,
    initial: Checkpoint[Flow] | None = None,
    report: Callable[[str], None] = print,
    track: Tracker = untracked,
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: the autoencoder, "autoencoder" or "vae", whose latents lie at latents_path; sample_latents: learn draws
    from each image's distribution rather than its mean; arguments and initial: as for train_autoencoder.
    """
    torch.manual_seed(options.seed)
    encoded = latents.load(latents_path, dataset)
    train = encoded.parts["train"]
    if initial is None:
        arguments = arguments | {
            "classes": len(dataset.classes), "latent_channels": train.mean.shape[1], "latent_size": train.mean.shape[2]
        }  # fmt: skip
        flow = Flow(**arguments)
        flow.set_statistics(train.sample() if sample_latents else train.mean)
    else:
        arguments, flow = initial.arguments, initial.network
        if initial.description["autoencoder_sha256"] != encoded.autoencoder_sha256:
            raise CheckpointError(f"{latents_path} are latents of another autoencoder than the flow was trained on")
    flow.to(options.device)

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        field = cast(Flow, model)
        mean, deviation, labels = batch
        raw = mean + deviation * torch.randn_like(mean) if sample_latents else mean
        dropout = LABEL_DROPOUT if model.training else 0.0
        return {"loss": flow_matching_loss(field, field.standardise(raw), labels, field.null_label, dropout)}

    test = _rows(encoded.parts["test"])
    prior = _prior(dataset, train.labels)
    path = paths.checkpoint_path(dataset.key, "dev", flow_name(kind))
    log = EpochLog(path, report)

    def save(average: nn.Module, record: dict[str, Any], classifier: dict[str, Any]) -> None:
        description = describe(
            dataset, options, record, autoencoder=kind, autoencoder_sha256=encoded.autoencoder_sha256,
            sample_latents=sample_latents, prior=prior,
            classifier=classifier,
        )  # fmt: skip
        checkpoints.save(Checkpoint(average, arguments, description), path)

    def on_epoch(average: nn.Module, record: dict[str, Any]) -> None:
        save(average, record, calibration.UNCALIBRATED)
        log.write(record)

    average = fit(
        flow,
        _rows(train),
        losses_of,
        lambda average: mean_losses(average, test, losses_of, TEST_BATCH, options.device),
        options,
        on_epoch,
        track,
    )
    validation = encoded.parts["validation"]
    standardised = cast(Flow, average).standardise(validation.mean.to(options.device)).cpu()
    classifier = calibration.calibrate(cast(Flow, average), standardised, validation.labels, prior, track)
    save(average, log.last, classifier)
    report(f"validation accuracy {in_words(classifier['validation']['accuracy'])}: {classifier['rule']} is the rule")
    return path


def _rows(part: latents.LatentPart) -> TensorRows:
    deviation = torch.zeros_like(part.mean) if part.log_variance is None else torch.exp(0.5 * part.log_variance)
    return TensorRows(part.mean, deviation, part.labels)


def _prior(dataset: datasets.Dataset, labels: Tensor) -> list[float]:
    """p(y): uniform, or the training frequencies, where a class without images counts as one image."""
    classes = len(dataset.classes)
    counts = torch.ones(classes) if dataset.uniform_prior else torch.bincount(labels, minlength=classes).clamp_min(1)
    return (counts.double() / counts.sum()).tolist()
