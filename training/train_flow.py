"""Train a flow on an encoded data set, and tune and finish it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker, untracked
from training import calibration, checkpoints, latents, parallel, paths
from training.augmentation import augmented
from training.autoencoders import AutoEncoder
from training.batches import TensorRows
from training.blocks import channels_last
from training.checkpoints import Checkpoint, CheckpointError
from training.classifiers import Classifier
from training.drawing import Drawing
from training.finishing import Finishing, RandomDrawing
from training.flows import Flow
from training.loop import Job, Losses, Stateful, fit
from training.losses import flow_matching_loss
from training.options import FlowObjective, Options
from training.paths import flow_name
from training.runs import Run, in_words
from training.tuning import PosteriorLoss

LABEL_DROPOUT = 0.1
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
    autoencoder: Checkpoint[AutoEncoder] | None = None,
    classifier: Checkpoint[Classifier] | None = None,
    report: Callable[[str], None] = print,
    track: Tracker = untracked,
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: the autoencoder, "autoencoder" or "vae", whose latents lie at latents_path; arguments and initial: as for
    train_autoencoder. Where takes_autoencoder says so, root is where the images lie, and `autoencoder` encodes or
    decodes; the posterior learns from the classifier, where there is one, rather than from labels. Where the objective
    draws, its decoder learns, too: its dev checkpoint is saved beside the flow's.
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
    _check_encoder(latents_path, encoded.encoder_sha256, initial, autoencoder)
    with_images = takes_autoencoder(objective, options, classifier is not None)
    if with_images and autoencoder is None:
        raise CheckpointError("drawing, augmentation, and a classifier take an autoencoder")
    identity = {
        "dataset": dataset.key, "network": arguments, "autoencoder": kind, **asdict(objective),
        "encoder_sha256": encoded.encoder_sha256, "fresh": initial is None,
        "learns_from": None if classifier is None else checkpoints.sha256_of(classifier.network),
    }  # fmt: skip
    path = paths.checkpoint_path(dataset.model_name, "dev", flow_name(kind))
    frequencies = _frequencies(train.labels, len(dataset.classes))
    prior = [1 / len(dataset.classes)] * len(dataset.classes) if dataset.uniform_prior else frequencies
    facts = {"prior": prior, "classifier": calibration.UNCALIBRATED}
    before, part = initial.description if initial else None, ""
    beside: tuple[Run, ...] = ()
    if objective.draws and autoencoder is not None:
        of_decoder = paths.checkpoint_path(dataset.model_name, "dev", kind)
        learnt, given = identity | {"network": autoencoder.arguments}, autoencoder.arguments
        decoder = Run(of_decoder, learnt, given, options, initial=autoencoder.description, part="drawing.autoencoder")
        part, beside = "drawing.flow", (decoder,)
    run = Run(path, identity, arguments, options, report, facts, before, part, beside)
    if run.is_complete():
        return path
    torch.manual_seed(options.seed)
    if initial is None:
        flow = Flow(**arguments)
        flow.set_statistics(train.sample() if objective.sample_latents else train.mean)
    else:
        flow = initial.network
    flow.to(options.device)

    state = run.state()
    model: nn.Module = flow
    loss, rows = FlowLoss(objective), _rows(train)
    if objective.class_weight:
        chosen = _standardised(flow, encoded.parts["validation"])
        bank = calibration.fit_bank(flow, *chosen, frequencies, objective.pairs, track)
        rivals = calibration.rivals(flow, *chosen, frequencies, bank, RIVALS, track)
        loss.posterior = PosteriorLoss(bank, rivals, frequencies, flow.latent_shape, options.device)
    if autoencoder is not None and with_images:
        images, labels = _images(dataset, root, options.device)
        rows = TensorRows(*rows.tensors, images.cpu())
        network = channels_last(autoencoder.network, options.device)
        if _classifies_images(objective, options, classifier is not None):
            reader = channels_last(classifier.network, options.device) if classifier else None
            loss.examples = Examples(network, reader, options)
        if objective.draws:
            model = RandomDrawing(Drawing(flow, network, objective.sampler))
            fresh = state is None
            loss.finishing = Finishing(objective, images, labels, len(dataset.classes), fresh, track)
            if fresh:
                loss.finishing.start(model, images, labels, track)
    parts = {part: _rows(encoded.parts[part]) for part in ("validation", "test")}
    fit(Job(model, rows, loss, parts, loss.companions), run, state, track)
    parallel.wait()
    if parallel.is_first():
        average = checkpoints.load(path, Flow, options.device).network
        validation = _standardised(average, encoded.parts["validation"])
        found = calibration.calibrate(average, *validation, frequencies, objective.pairs, track)
        run.finish(classifier=found)
        report(f"validation accuracy {in_words(found['validation']['accuracy'])}: {found['rule']} is the rule")
    parallel.wait()
    return path


def takes_autoencoder(objective: FlowObjective, options: Options, classifier: bool) -> bool:
    """Whether a flow's training takes the autoencoder, and images, beside their latents; classifier: there is one."""
    return objective.draws or _classifies_images(objective, options, classifier)


def _classifies_images(objective: FlowObjective, options: Options, classifier: bool) -> bool:
    """Whether the posterior learns from images, changed or read by a classifier, and not from latents and labels."""
    return objective.class_weight > 0 and (options.augments or classifier)


class Examples:
    """Latents of images that are changed a little, to learn to classify, and what a classifier reads in them."""

    def __init__(self, autoencoder: AutoEncoder, classifier: Classifier | None, options: Options) -> None:
        """options: say how they are changed."""
        self._autoencoder, self._classifier, self._options = autoencoder, classifier, options

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Means of raw latents (N, C, 7, 7) and class logits (N, classes) of uint8 images (N, 1, 28, 28).

        Means, since it is these that are classified in use.
        """
        pixels = augmented(images, self._options).contiguous(memory_format=torch.channels_last)
        logits = None if self._classifier is None else self._classifier(pixels)
        return self._autoencoder.encode(pixels)[0], logits


class FlowLoss:
    """What a flow minimises, an options.FlowObjective, with what learns beside it."""

    posterior: PosteriorLoss | None = None  # where the objective classifies
    examples: Examples | None = None  # where it learns to classify other than by latents and labels
    finishing: Finishing | None = None  # where it draws

    def __init__(self, objective: FlowObjective) -> None:
        self._objective = objective

    @property
    def companions(self) -> dict[str, Stateful]:
        """What a snapshot keeps of it."""
        parts: dict[str, Stateful | None] = {"posterior": self.posterior, "finishing": self.finishing}
        return {name: part for name, part in parts.items() if part is not None}

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        """Losses of a Flow, or a RandomDrawing, for means and deviations of latents (N, C, 7, 7) and labels (N,).

        In training there are their images, too, uint8 (N, 1, 28, 28), where takes_autoencoder says so.
        """
        flow = model.drawing.flow if isinstance(model, RandomDrawing) else model
        assert isinstance(flow, Flow)
        mean, deviation, labels = batch[:3]
        raw = mean + deviation * parallel.randn_like(mean) if self._objective.sample_latents else mean
        dropout = LABEL_DROPOUT if model.training else 0.0
        latents = flow.standardise(raw)
        losses = {"matching": flow_matching_loss(flow, latents, labels, flow.null_label, dropout)}
        losses["loss"] = losses["matching"]
        if self.posterior is not None:
            logits = None
            if self.examples is not None and model.training:
                raw, logits = self.examples(batch[3])
                latents = flow.standardise(raw)
            losses["class"] = self.posterior(flow, latents, labels, logits)
            losses["loss"] = losses["loss"] + self._objective.class_weight * losses["class"]
        if self.finishing is not None and isinstance(model, RandomDrawing) and model.training:
            drawn = self.finishing(model(labels), batch[3], labels)
            losses["loss"] = losses["loss"] + drawn.pop("drawing")
            losses |= drawn
        return losses


def _check_encoder(
    latents_path: Path, sha256: str, initial: Checkpoint[Flow] | None, autoencoder: Checkpoint[AutoEncoder] | None
) -> None:
    """CheckpointError where the latents are of another encoder than the flow's or the autoencoder's."""
    if initial is not None and initial.description["encoder_sha256"] != sha256:
        raise CheckpointError(f"{latents_path} are latents of another encoder than the flow was trained on")
    if autoencoder is not None and checkpoints.encoder_sha256(autoencoder.network) != sha256:
        raise CheckpointError(f"{latents_path} are latents of another encoder than that of the decoder to be finished")


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


def _frequencies(labels: Tensor, classes: int) -> list[float]:
    """Those of classes in training, and in its validation part; a class without images counts as one image.

    They are the p(y) with which scores become the posterior of these images, whatever p(y) is where the flow is used.
    """
    counts = torch.bincount(labels, minlength=classes).clamp_min(1).double()
    return (counts / counts.sum()).tolist()
