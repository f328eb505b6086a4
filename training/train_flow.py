"""Train a flow on an encoded data set, and tune and finish it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.errors import DataError
from runtime.tracking import Tracker
from training import calibration, checkpoints, denoising_bank, latents, parallel, scoring
from training.checkpoints import Checkpoint, CheckpointError
from training.engine.batches import TensorRows, check_batch_size, image_rows
from training.engine.loop import Job, Losses, Stateful, fit
from training.engine.runs import Run, Task, in_words
from training.networks.autoencoders import AutoEncoder
from training.networks.blocks import channels_last
from training.networks.classifiers import Classifier
from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.objectives.finishing import Finishing, RandomDrawing
from training.objectives.losses import flow_matching_loss
from training.objectives.tuning import Examples, PosteriorLoss
from training.options import FlowObjective, Options
from training.paths import VERSIONS, checkpoint_path, flow_name

LABEL_DROPOUT = 0.1
RIVALS = 12  # classes among which tuning learns to tell, each among those that are hardest to tell from it


@dataclass(frozen=True)
class Given:
    """Checkpoints that a flow's training takes.

    flow: to go on from; autoencoder: encodes changed images, or decodes what is drawn, where takes_autoencoder says so;
    classifier: the posterior learns from its reading, where there is one, rather than from labels.
    """

    flow: Checkpoint[Flow] | None = None
    autoencoder: Checkpoint[AutoEncoder] | None = None
    classifier: Checkpoint[Classifier] | None = None


def train_flow(task: Task, kind: str, latents_path: Path, objective: FlowObjective, given: Given) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: the autoencoder, "autoencoder" or "vae", whose latents lie at latents_path. Where the objective draws, its
    decoder learns, too: its dev checkpoint is saved beside the flow's.
    """
    encoded = latents.load(latents_path, task.dataset)
    options, train = task.options, encoded.parts["train"]
    with_images = takes_autoencoder(objective, options, given.classifier is not None)
    _check(task.dataset.model_name, given, kind, latents_path, encoded, with_images)
    check_batch_size(len(train.labels), options.batch_size)
    frequencies = _frequencies(train.labels, len(task.dataset.classes))
    run = _run(task, kind, objective, given, encoded, frequencies)
    if run.is_complete():
        return run.checkpoint
    torch.manual_seed(options.seed)
    flow = given.flow.network if given.flow is not None else _new_flow(run.arguments, objective, train)
    flow.to(options.device)

    state = run.state()
    model, rows, loss = _learning(task, given, objective, flow, train, frequencies)
    if state is None:
        if given.flow is None and flow.sieve is not None:
            z, labels = _standardised(flow, train)
            flow.sieve.learn(z.to(options.device), labels.to(options.device), task.track)
        if loss.posterior is not None:
            _start_posterior(loss.posterior, flow, encoded.parts["validation"], frequencies, task.track)
        if loss.finishing is not None:
            labels, images = (tensor.to(options.device) for tensor in rows.tensors[-2:])
            with options.autocast():
                loss.finishing.start(model, images, labels, task.track)
    parts = {part: _rows(encoded.parts[part]) for part in ("validation", "test")}
    fit(Job(model, rows, loss, parts, loss.companions), run, state, task.track)
    parallel.wait()
    if parallel.is_first():
        _finish(task, run, encoded.parts["validation"], frequencies, objective.pairs)
    parallel.wait()
    return run.checkpoint


def takes_autoencoder(objective: FlowObjective, options: Options, classifier: bool) -> bool:
    """Whether a flow's training takes the autoencoder, and images, beside their latents; classifier: there is one."""
    return objective.draws or _classifies_images(objective, options, classifier)


def _classifies_images(objective: FlowObjective, options: Options, classifier: bool) -> bool:
    """Whether the posterior learns from images, changed or read by a classifier, and not from latents and labels."""
    return objective.class_weight > 0 and (options.augments or classifier)


@dataclass(frozen=True)
class FlowLoss:
    """What a flow minimises, with what learns beside it.

    posterior: where the objective classifies; examples: where it learns that other than by latents and labels;
    finishing: where it draws.
    """

    objective: FlowObjective
    posterior: PosteriorLoss | None = None
    examples: Examples | None = None
    finishing: Finishing | None = None

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
        raw = mean + deviation * parallel.randn_like(mean) if self.objective.sample_latents else mean
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
            losses["loss"] = losses["loss"] + self.objective.class_weight * losses["class"]
        if self.finishing is not None and isinstance(model, RandomDrawing) and model.training:
            drawn = self.finishing(model(labels), batch[3], labels)
            losses["loss"] = losses["loss"] + drawn.pop("drawing")
            losses |= drawn
        return losses


def _check(
    model: str, given: Given, kind: str, latents_path: Path, encoded: latents.Latents, with_images: bool
) -> None:
    """CheckpointError where a checkpoint is missing, or the latents are of another encoder than a checkpoint's."""
    sha256 = encoded.encoder_sha256
    there = [path for version in VERSIONS if (path := checkpoint_path(model, version, kind)).is_file()]
    encoders = [checkpoints.encoder_sha256(checkpoints.load(path, AutoEncoder).network) for path in there]
    if there and sha256 not in encoders:
        others = " or ".join(map(str, there))
        raise CheckpointError(f"{latents_path} are latents of another encoder than {others} has: encode the data set")
    if (encoded.parts["train"].log_variance is not None) != (kind == "vae"):
        raise CheckpointError(f"{latents_path} are not latents of the {kind}: give the right --autoencoder")
    if with_images and given.autoencoder is None:
        raise CheckpointError("drawing, augmentation, and a classifier take an autoencoder")
    if given.flow is not None and given.flow.description["encoder_sha256"] != sha256:
        raise CheckpointError(f"{latents_path} are latents of another encoder than the flow was trained on")
    if given.autoencoder is not None and checkpoints.encoder_sha256(given.autoencoder.network) != sha256:
        raise CheckpointError(f"{latents_path} are latents of another encoder than that of the decoder to be finished")


def _run(
    task: Task, kind: str, objective: FlowObjective, given: Given, encoded: latents.Latents, frequencies: list[float]
) -> Run:
    """The flow's run, with the decoder's beside it where that learns, too."""
    classes, shape = len(task.dataset.classes), encoded.parts["train"].mean.shape
    of_data = {"classes": classes, "latent_channels": shape[1], "latent_size": shape[2]}
    identity = {
        "autoencoder": kind, **asdict(objective), "encoder_sha256": encoded.encoder_sha256,
        "learns_from": None if given.classifier is None else checkpoints.sha256_of(given.classifier.network),
    }  # fmt: skip
    prior = [1 / classes] * classes if task.dataset.uniform_prior else frequencies
    facts = {"prior": prior, "classifier": calibration.UNCALIBRATED}
    if not objective.draws:
        return task.run(flow_name(kind), given.flow, identity, of_data, facts=facts)
    decoder = task.run(kind, given.autoencoder, identity, part="drawing.autoencoder")
    return task.run(flow_name(kind), given.flow, identity, of_data, facts=facts, part="drawing.flow", beside=(decoder,))


def _new_flow(arguments: dict[str, Any], objective: FlowObjective, train: latents.LatentPart) -> Flow:
    """A flow that has learnt nothing but the statistics of its latents."""
    flow = Flow(**arguments)
    flow.set_statistics(train.sample() if objective.sample_latents else train.mean)
    return flow


def _learning(
    task: Task, given: Given, objective: FlowObjective, flow: Flow, train: latents.LatentPart, frequencies: list[float]
) -> tuple[nn.Module, TensorRows, FlowLoss]:
    """What learns, the flow or a RandomDrawing of it, from which rows, and its loss, nothing of which has started."""
    options, device = task.options, task.options.device
    posterior = examples = None
    if objective.class_weight:
        bank = denoising_bank.plain_bank(objective.pairs)
        posterior = PosteriorLoss(bank, frequencies, flow.latent_shape, device)
    rows, classified = _rows(train), _classifies_images(objective, options, given.classifier is not None)
    if not (objective.draws or classified):
        return flow, rows, FlowLoss(objective, posterior)
    images, labels = image_rows(task.dataset, task.root, "train").tensors
    if not torch.equal(labels, train.labels):
        raise DataError(f"the latents are not of the images below {task.root}: encode the data set again")
    assert given.autoencoder is not None
    rows, autoencoder = TensorRows(*rows.tensors, images), channels_last(given.autoencoder.network, device)
    if classified:
        reader = channels_last(given.classifier.network, device) if given.classifier else None
        examples = Examples(autoencoder, reader, options.shift, options.distort)
    if not objective.draws:
        return flow, rows, FlowLoss(objective, posterior, examples)
    model = RandomDrawing(Drawing(flow, autoencoder, objective.sampler))
    finishing = Finishing(objective, len(task.dataset.classes), device)
    return model, rows, FlowLoss(objective, posterior, examples, finishing)


def _start_posterior(
    loss: PosteriorLoss, flow: Flow, validation: latents.LatentPart, frequencies: list[float], track: Tracker
) -> None:
    """Give it the pairs' weights and the rivals that the flow has now."""
    z, labels = _standardised(flow, validation)
    errors = scoring.errors_of(flow, z, loss.bank, len(frequencies), track)
    bank = denoising_bank.fit_bank(errors, labels, frequencies)
    loss.start(bank.weights, denoising_bank.rivals(errors, labels, frequencies, bank, RIVALS))


def _finish(task: Task, run: Run, validation: latents.LatentPart, frequencies: list[float], pairs: int) -> None:
    """Mark the kept checkpoints complete, with the rule by which the flow classifies best."""
    flow = checkpoints.load(run.checkpoint, Flow, task.options.device).network
    z, labels = _standardised(flow, validation)
    found = calibration.calibrate(flow, z, labels, frequencies, pairs, task.track)
    run.finish(classifier=found)
    compared = found["validation"]
    accuracies = in_words(compared["accuracy"])
    run.report(f"accuracy of {compared['images']:,} validation images {accuracies}: {found['rule']} is the rule")


def _rows(part: latents.LatentPart) -> TensorRows:
    return TensorRows(part.mean, part.deviation, part.labels)


def _standardised(flow: Flow, part: latents.LatentPart) -> tuple[Tensor, Tensor]:
    """Means as the flow takes them, and labels, on the CPU."""
    return flow.standardise(part.mean.to(flow.channel_mean.device)).cpu(), part.labels


def _frequencies(labels: Tensor, classes: int) -> list[float]:
    """Those of classes in training, and in its validation part; a class without images counts as one image.

    They are the p(y) with which scores become the posterior of these images, whatever p(y) is where the flow is used.
    """
    counts = torch.bincount(labels, minlength=classes).clamp_min(1).double()
    return (counts / counts.sum()).tolist()
