"""Train a classifier of images, from which a flow may learn classes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import parallel, paths
from training.checkpoints import Checkpoint
from training.engine.augmentation import augmented
from training.engine.batches import image_parts
from training.engine.loop import Job, Losses, fit
from training.engine.runs import Task
from training.networks.blocks import channels_last
from training.networks.classifiers import Classifier


def train_classifier(task: Task, initial: Checkpoint[Classifier] | None = None) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path."""
    run = task.run(paths.CLASSIFIER, initial, {}, {"classes": len(task.dataset.classes)})
    if run.is_complete():
        return run.checkpoint
    torch.manual_seed(task.options.seed)
    train, parts = image_parts(task.dataset, task.root, task.options.batch_size)
    network = channels_last(initial.network if initial else Classifier(**run.arguments), task.options.device)
    shift, distort = task.options.shift, task.options.distort

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        pixels = augmented(batch[0], shift, distort) if model.training else batch[0].float() / 255
        logits = model(pixels.contiguous(memory_format=torch.channels_last))
        wrong = (logits.argmax(1) != batch[1]).float().mean()
        return {"loss": F.cross_entropy(logits, batch[1]), "error_rate": wrong}

    fit(Job(network, train, losses_of, parts), run, run.state(), task.track)
    parallel.wait()
    run.finish()
    return run.checkpoint
