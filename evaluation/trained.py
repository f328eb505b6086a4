"""Figures that take a network trained on samples: can it tell them from real images, or read these? Needs torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.networks import PoolingNetwork, fit
from runtime.datasets import LabelledImages
from runtime.tracking import Tracker, untracked

TWO_SAMPLE_STEPS = 800
TWO_SAMPLE_NETWORKS = 3  # of which some learn nothing where samples are hard to tell from real images
LEARNING_STEPS = 2_000
LEARNING_COUNT = 60_000


def two_sample_accuracy(
    samples: LabelledImages, real: LabelledImages, seed: int = 0, track: Tracker = untracked
) -> float:
    """Held-out accuracy of a CNN trained to tell samples from real images; 0.5 where it can't.

    Half of each side is for training, half held out; both sides have the same labels in the same order. Of several
    networks the one counts that tells the halves for training apart best.
    """
    order = np.random.default_rng(seed).permutation(len(real.images))
    learnt, held_out = (_joined(samples.images[half], real.images[half]) for half in np.array_split(order, 2))
    networks = []
    for own in range(TWO_SAMPLE_NETWORKS * seed, TWO_SAMPLE_NETWORKS * (seed + 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(own)
            networks.append(PoolingNetwork(2))
            fit(networks[-1], *learnt, TWO_SAMPLE_STEPS, own, track)
    return accuracy(max(networks, key=lambda network: accuracy(network, *learnt)), *held_out)


def learning_accuracy(
    train: LabelledImages, test: LabelledImages, classes: int, seed: int = 0, track: Tracker = untracked
) -> float:
    """Accuracy on test images of a CNN trained on other images only, which may be samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PoolingNetwork(classes)
        fit(network, torch.from_numpy(train.images), torch.from_numpy(train.labels), LEARNING_STEPS, seed, track)
    return accuracy(network, torch.from_numpy(test.images), torch.from_numpy(test.labels))


def learning_labels(train: NDArray[np.int64], count: int = LEARNING_COUNT) -> NDArray[np.int64]:
    """Labels for `count` samples with the frequencies of training labels."""
    return np.resize(np.random.default_rng(0).permutation(train), count)


@torch.no_grad()
def accuracy(network: PoolingNetwork, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of uint8 images (N, 28, 28) that a network in evaluation mode reads as their labels (N,)."""
    found = torch.cat([network(part[:, None].float() / 255)[1].argmax(1) for part in images.split(500)])
    return (found == labels).float().mean().item()


def _joined(samples: NDArray[np.uint8], real: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of both sides, and 0 for a sample, 1 for a real one."""
    images = torch.from_numpy(np.concatenate([samples, real]))
    return images, (torch.arange(len(images)) >= len(samples)).long()
