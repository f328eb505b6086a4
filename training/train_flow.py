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
from training.loop import Job, Losses, Stateful, fit
from training.losses import flow_matching_loss
from training.options import Options
from training.paths import flow_name
from training.runs import Run, in_words
from training.tuning import PosteriorLoss

LABEL_DROPOUT = 0.1


def train_flow(
    dataset: datasets.Dataset,
    latents_path: Path,
    kind: str,
    arguments: dict[str, Any],
    options: Options,
    sample_latents: bool = False,
    class_weight: float = 0.0,
    pairs: int = calibration.PAIRS,
    initial: Checkpoint[Flow] | None = None,
    report: Callable[[str], None] = print,
    track: Tracker = untracked,
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: the autoencoder, "autoencoder" or "vae", whose latents lie at latents_path; sample_latents: learn draws
    from each image's distribution rather than its mean; class_weight: of the cross-entropy of its posterior by the
    denoising rule, 0 for a flow that is trained generatively only; pairs: how many (t, noise) that rule has;
    arguments and initial: as for train_autoencoder.
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
        "class_weight": class_weight, "pairs": pairs,
        "autoencoder_sha256": encoded.autoencoder_sha256, "fresh": initial is None,
    }  # fmt: skip
    path = paths.checkpoint_path(dataset.key, "dev", flow_name(kind))
    prior = _prior(dataset, train.labels)
    facts = {"prior": prior, "classifier": calibration.UNCALIBRATED}
    run = Run(path, identity, arguments, options, report, facts, initial.description if initial else None)
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

    posterior = None
    if class_weight:
        bank = calibration.fit_bank(flow, *_standardised(flow, encoded.parts["validation"]), prior, pairs, track)
        posterior = PosteriorLoss(bank, prior, flow.latent_shape, options.device)

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        field = cast(Flow, model)
        mean, deviation, labels = batch
        raw = mean + deviation * parallel.randn_like(mean) if sample_latents else mean
        dropout = LABEL_DROPOUT if model.training else 0.0
        latents = field.standardise(raw)
        matching = flow_matching_loss(field, latents, labels, field.null_label, dropout)
        if posterior is None:
            return {"loss": matching}
        cross_entropy = posterior(field, latents, labels)
        return {"loss": matching + class_weight * cross_entropy, "matching": matching, "class": cross_entropy}

    parts = {part: _rows(encoded.parts[part]) for part in ("validation", "test")}
    companions: dict[str, Stateful] = {"posterior": posterior} if posterior else {}
    fit(Job(flow, _rows(train), losses_of, parts, companions), run, run.state(), track)
    parallel.wait()
    if parallel.is_first():
        average = checkpoints.load(path, Flow, options.device).network
        validation = _standardised(average, encoded.parts["validation"])
        classifier = calibration.calibrate(average, *validation, prior, pairs, track)
        run.finish(average, classifier=classifier)
        report(
            f"validation accuracy {in_words(classifier['validation']['accuracy'])}: {classifier['rule']} is the rule"
        )
    parallel.wait()
    return path


def _rows(part: latents.LatentPart) -> TensorRows:
    deviation = torch.zeros_like(part.mean) if part.log_variance is None else torch.exp(0.5 * part.log_variance)
    return TensorRows(part.mean, deviation, part.labels)


def _standardised(flow: Flow, part: latents.LatentPart) -> tuple[Tensor, Tensor]:
    """Means as the flow takes them, and labels, on the CPU."""
    return flow.standardise(part.mean.to(flow.channel_mean.device)).cpu(), part.labels


def _prior(dataset: datasets.Dataset, labels: Tensor) -> list[float]:
    """p(y): uniform, or the training frequencies, where a class without images counts as one image."""
    classes = len(dataset.classes)
    counts = torch.ones(classes) if dataset.uniform_prior else torch.bincount(labels, minlength=classes).clamp_min(1)
    return (counts.double() / counts.sum()).tolist()
