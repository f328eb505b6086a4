"""Train an autoencoder or VAE on the images of a data set."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from training import parallel
from training.checkpoints import Checkpoint
from training.engine.augmentation import augmented
from training.engine.batches import image_parts
from training.engine.loop import Job, Losses, Stateful, fit
from training.engine.runs import Task
from training.networks.autoencoders import AUTOENCODERS, AutoEncoder
from training.networks.blocks import channels_last
from training.objectives.adversary import Adversary, PatchCritic
from training.objectives.losses import ReconstructionLoss, autoencoder_losses
from training.objectives.perception import FeatureNetwork, frozen
from training.objectives.probe import LatentProbe
from training.options import AutoencoderObjective

ADVERSARY_STARTS = 0.2  # of all steps


def train_autoencoder(
    task: Task, kind: str, objective: AutoencoderObjective, initial: Checkpoint[AutoEncoder] | None = None
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path.

    kind: "autoencoder" or "vae"; initial: a checkpoint to go on from.
    """
    dataset, options, track = task.dataset, task.options, task.track
    run = task.run(kind, initial, asdict(objective))
    if run.is_complete():
        return run.checkpoint
    torch.manual_seed(options.seed)
    train, parts = image_parts(dataset, task.root, options.batch_size)
    state = run.state()
    features = frozen(FeatureNetwork(len(dataset.classes)), options.device)
    if state is None:
        run.report(f"learning what looks alike: a classifier of {dataset.key}")
        images, labels = (tensor.to(options.device) for tensor in train.tensors)
        with options.autocast():
            features.learn(images, labels, options.batch_size, track)
        del images, labels

    network = initial.network if initial else AUTOENCODERS[kind](**run.arguments)
    channels_last(network, options.device)
    steps = options.total_epochs * len(train) // options.batch_size
    adversary = Adversary(PatchCritic(), options.device, int(ADVERSARY_STARTS * steps))
    reconstruction = ReconstructionLoss(features.features, adversary)
    companions: dict[str, Stateful] = {"features": features, "adversary": adversary}
    probe = None
    if objective.class_weight:
        size = math.prod(network.latent_shape)
        probe = companions["probe"] = LatentProbe(size, len(dataset.classes), options.device)

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        pixels = augmented(batch[0], options.shift, options.distort) if model.training else batch[0].float() / 255
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return autoencoder_losses(cast(AutoEncoder, model), pixels, batch[1], reconstruction, objective, probe)

    fit(Job(network, train, losses_of, parts, companions), run, state, track)
    parallel.wait()
    run.finish()
    return run.checkpoint
