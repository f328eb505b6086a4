"""Train a classifier of images, from which a flow may learn classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime import datasets
from runtime.tracking import Tracker, untracked
from training import parallel, paths
from training.augmentation import augmented
from training.batches import image_parts
from training.blocks import channels_last
from training.checkpoints import Checkpoint
from training.classifiers import Classifier
from training.loop import Job, Losses, fit
from training.options import Options
from training.runs import Run


def train_classifier(
    dataset: datasets.Dataset,
    root: Path,
    arguments: dict[str, Any],
    options: Options,
    initial: Checkpoint[Classifier] | None = None,
    report: Callable[[str], None] = print,
    track: Tracker = untracked,
) -> Path:
    """Train and save the dev checkpoint at every epoch; returns its path. Arguments: as for train_autoencoder."""
    arguments = initial.arguments if initial else arguments | {"classes": len(dataset.classes)}
    identity = {"dataset": dataset.key, "network": arguments, "fresh": initial is None}
    path = paths.checkpoint_path(dataset.model_name, "dev", paths.CLASSIFIER)
    run = Run(path, identity, arguments, options, report, initial=initial.description if initial else None)
    if run.is_complete():
        return path
    torch.manual_seed(options.seed)
    train, parts = image_parts(dataset, root)
    network = channels_last(initial.network if initial else Classifier(**arguments), options.device)

    def losses_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        pixels = augmented(batch[0], options) if model.training else batch[0].float() / 255
        logits = model(pixels.contiguous(memory_format=torch.channels_last))
        wrong = (logits.argmax(1) != batch[1]).float().mean()
        return {"loss": F.cross_entropy(logits, batch[1]), "error_rate": wrong}

    fit(Job(network, train, losses_of, parts), run, run.state(), track)
    parallel.wait()
    run.finish()
    return path
