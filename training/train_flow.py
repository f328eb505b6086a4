"""Train a flow on an encoded data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker, untracked
from training import calibration, checkpoints, latents, parallel, paths
from training.autoencoders import AutoEncoder
from training.batches import TensorRows
from training.checkpoints import Checkpoint, CheckpointError
from training.finishing import FrechetLoss
from training.flows import Flow
from training.loop import Job, Losses, Stateful, fit
from training.losses import flow_matching_loss
from training.options import FlowObjective, Options
from training.paths import flow_name
from training.perception import EmbeddingNetwork, train_classifier
from training.runs import Run, in_words
from training.tuning import PosteriorLoss

LABEL_DROPOUT = 0.1
FEATURE_STEPS, FEATURE_BATCH = 1500, 128  # of the classifier through whose features the Frechet distance looks
RIVALS = 12  # classes among which tuning learns to tell, each among those that are hardest to tell from it


def train_flow(
    dataset: datasets.Dataset,
    latents_path: Path,
    kind: str,
    arguments: dict[str, Any],
    options: Options,
    objective: FlowObjective,
    root: Path,
    initial: Checkpoint[Flow] | None = None,
    report: Callable[[str], None] = print,
    track: Tracker = untracked,
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: the autoencoder, "autoencoder" or "vae", whose latents lie at latents_path; root: where the images lie, which
    only the objective's Frechet distance needs; arguments and initial: as for train_autoencoder.
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
        "dataset": dataset.key, "network": arguments, "autoencoder": kind, **asdict(objective),
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
        flow.set_statistics(train.sample() if objective.sample_latents else train.mean)
    else:
        flow = initial.network
    flow.to(options.device)

    state = run.state()
    companions: dict[str, Stateful] = {}
    posterior, frechet = None, None
    if objective.class_weight:
        chosen = _standardised(flow, encoded.parts["validation"])
        bank = calibration.fit_bank(flow, *chosen, prior, objective.pairs, track)
        rivals = calibration.rivals(flow, *chosen, prior, bank, RIVALS, track)
        posterior = companions["posterior"] = PosteriorLoss(bank, rivals, prior, flow.latent_shape, options.device)
    if objective.frechet_weight:
        autoencoder = _autoencoder(dataset, kind, encoded.autoencoder_sha256, options.device)
        images, labels = _images(dataset, root, options.device)
        features = EmbeddingNetwork(len(dataset.classes))
        steps = FEATURE_STEPS if state is None else 0
        train_classifier(features, images, labels, steps, FEATURE_BATCH, track)
        frechet = companions["frechet"] = FrechetLoss(autoencoder, features, images, labels, objective.sampler, track)
        if state is None:
            frechet.start(flow, labels, track)
        del images

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        field = cast(Flow, model)
        mean, deviation, labels = batch
        raw = mean + deviation * parallel.randn_like(mean) if objective.sample_latents else mean
        dropout = LABEL_DROPOUT if model.training else 0.0
        latents = field.standardise(raw)
        losses = {"loss": flow_matching_loss(field, latents, labels, field.null_label, dropout)}
        losses["matching"] = losses["loss"]
        if posterior is not None:
            losses["class"] = posterior(field, latents, labels)
            losses["loss"] = losses["loss"] + objective.class_weight * losses["class"]
        if frechet is not None and model.training:
            losses["frechet"] = frechet(field, labels)
            losses["loss"] = losses["loss"] + objective.frechet_weight * losses["frechet"]
        return losses

    parts = {part: _rows(encoded.parts[part]) for part in ("validation", "test")}
    fit(Job(flow, _rows(train), losses_of, parts, companions), run, state, track)
    parallel.wait()
    if parallel.is_first():
        average = checkpoints.load(path, Flow, options.device).network
        validation = _standardised(average, encoded.parts["validation"])
        classifier = calibration.calibrate(average, *validation, prior, objective.pairs, track)
        run.finish(average, classifier=classifier)
        report(
            f"validation accuracy {in_words(classifier['validation']['accuracy'])}: {classifier['rule']} is the rule"
        )
    parallel.wait()
    return path


def _autoencoder(dataset: datasets.Dataset, kind: str, sha256: str, device: torch.device) -> AutoEncoder:
    """The autoencoder whose latents the flow learns, frozen; CheckpointError where it is neither dev nor main."""
    versions: tuple[paths.Version, ...] = ("dev", "main")
    for path in (paths.checkpoint_path(dataset.key, version, kind) for version in versions):
        if path.is_file() and paths.sha256(path) == sha256:
            return checkpoints.load(path, AutoEncoder, device).network.requires_grad_(False)
    raise CheckpointError(f"neither the dev nor the main {kind} of {dataset.key} is the one that made the latents")


def _images(dataset: datasets.Dataset, root: Path, device: torch.device) -> tuple[Tensor, Tensor]:
    """Training images uint8 (N, 1, 28, 28) and labels (N,)."""
    data = datasets.load(dataset, root, "train")
    return torch.from_numpy(data.images)[:, None].to(device), torch.from_numpy(data.labels).to(device)


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
