"""Train a flow on an encoded data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker, untracked
from training import calibration, checkpoints, latents, parallel, paths
from training.batches import TensorRows
from training.checkpoints import Checkpoint, CheckpointError
from training.flows import Flow
from training.loop import Job, Losses, fit
from training.losses import flow_matching_loss
from training.options import Options
from training.paths import flow_name
from training.runs import Run, in_words

LABEL_DROPOUT = 0.1


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
    encoded = latents.load(latents_path, dataset)
    train = encoded.parts["train"]
    if initial is None:
        of_data = {
            "classes": len(dataset.classes), "latent_channels": train.mean.shape[1], "latent_size": train.mean.shape[2]
        }  # fmt: skip
        arguments = arguments | of_data
    else:
        arguments = initial.arguments
        if initial.description["autoencoder_sha256"] != encoded.autoencoder_sha256:
            raise CheckpointError(f"{latents_path} are latents of another autoencoder than the flow was trained on")
    identity = {
        "dataset": dataset.key, "network": arguments, "autoencoder": kind, "sample_latents": sample_latents,
        "autoencoder_sha256": encoded.autoencoder_sha256, "fresh": initial is None,
    }  # fmt: skip
    path = paths.checkpoint_path(dataset.key, "dev", flow_name(kind))
    prior = _prior(dataset, train.labels)
    run = Run(path, identity, arguments, options, report, {"prior": prior, "classifier": calibration.UNCALIBRATED})
    if run.is_complete():
        run.report(f"{path} is complete")
        return path
    torch.manual_seed(options.seed)
    if initial is None:
        flow = Flow(**arguments)
        flow.set_statistics(train.sample() if sample_latents else train.mean)
    else:
        flow = initial.network
    flow.to(options.device)

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        field = cast(Flow, model)
        mean, deviation, labels = batch
        raw = mean + deviation * parallel.randn_like(mean) if sample_latents else mean
        dropout = LABEL_DROPOUT if model.training else 0.0
        return {"loss": flow_matching_loss(field, field.standardise(raw), labels, field.null_label, dropout)}

    parts = {part: _rows(encoded.parts[part]) for part in ("validation", "test")}
    fit(Job(flow, _rows(train), losses_of, parts), run, run.state(), track)
    parallel.wait()
    if parallel.is_first():
        average = checkpoints.load(path, Flow, options.device).network
        validation = encoded.parts["validation"]
        standardised = average.standardise(validation.mean.to(options.device)).cpu()
        classifier = calibration.calibrate(average, standardised, validation.labels, prior, track)
        run.finish(average, classifier=classifier)
        report(
            f"validation accuracy {in_words(classifier['validation']['accuracy'])}: {classifier['rule']} is the rule"
        )
    parallel.wait()
    return path


def _rows(part: latents.LatentPart) -> TensorRows:
    deviation = torch.zeros_like(part.mean) if part.log_variance is None else torch.exp(0.5 * part.log_variance)
    return TensorRows(part.mean, deviation, part.labels)


def _prior(dataset: datasets.Dataset, labels: Tensor) -> list[float]:
    """p(y): uniform, or the training frequencies, where a class without images counts as one image."""
    classes = len(dataset.classes)
    counts = torch.ones(classes) if dataset.uniform_prior else torch.bincount(labels, minlength=classes).clamp_min(1)
    return (counts.double() / counts.sum()).tolist()
