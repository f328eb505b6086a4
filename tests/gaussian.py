"""Closed forms of a flow on Gaussian data, and checkpoints whose networks have them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from export.bundles import export_bundle
from export.sources import Source
from runtime.datasets import find
from training import checkpoints, paths
from training.calibration import UNCALIBRATED
from training.checkpoints import Checkpoint
from training.networks.autoencoders import AutoEncoder
from training.networks.flows import Flow
from training.networks.generators import Generator


def velocity(x, t, mean, std):
    """v(x, t) of data N(mean, std^2 I): m + (t s^2 - (1 - t)) / V (x - t m), V = (1 - t)^2 + t^2 s^2."""
    variance = (1 - t) ** 2 + t**2 * std**2
    return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)


def divergence(t, std, size):
    variance = (1 - t) ** 2 + t**2 * std**2
    return size * (t * std**2 - (1 - t)) / variance


def log_density(z, mean, std):
    flat = ((z - mean) / std).reshape(len(z), -1)
    size = flat.shape[1]
    return -0.5 * np.square(flat).sum(1) - size * math.log(std) - 0.5 * size * math.log(2 * math.pi)


def gaussian_flow(classes: int = 10, seed: int = 0) -> Flow:
    """A flow whose network's correction is zero, so that it is N(element_mean, element_variance) exactly."""
    torch.manual_seed(seed)
    flow = Flow(classes, dim1=8, n_layers=1, embedding=4).eval()
    torch.nn.init.zeros_(flow.backbone.last.bias)
    flow.element_mean.copy_(0.3 * torch.randn(flow.latent_shape))
    flow.element_variance.copy_(0.2 + torch.rand(flow.latent_shape))
    return flow


def save_checkpoints() -> Source:
    """An untrained autoencoder and a Gaussian flow as main checkpoints of MNIST below paths.FOLDER."""
    torch.manual_seed(1)
    source = Source(find("MNIST"), "autoencoder")
    arguments = {"dim1": 4, "dim2": 4, "dim3": 2, "n_layers": 1}
    described = {"total_epochs": 0}
    autoencoder = AutoEncoder(**arguments).eval()
    checkpoints.save(Checkpoint(autoencoder, arguments, described), source.autoencoder_path)
    description = {
        "prior": [0.1] * 10,
        "classifier": UNCALIBRATED,
        "encoder_sha256": checkpoints.encoder_sha256(autoencoder),
        **described,
    }
    flow = gaussian_flow()
    checkpoints.save(Checkpoint(flow, {"dim1": 8, "n_layers": 1, "embedding": 4}, description), source.flow_path)
    return source


def save_generator(source: Source) -> None:
    """An untrained generator as the main checkpoint beside those of `source`."""
    torch.manual_seed(2)
    arguments = {"dim1": 8, "n_layers": 1, "dim2": 4, "dim3": 2, "n_blocks": 1}
    teacher = [paths.sha256(path) for path in (source.autoencoder_path, source.flow_path)]
    description = {"total_epochs": 0, "teacher": teacher}
    generator = Generator(**arguments).eval()
    for layer in (generator.backbone.last, *(block.modulation for block in generator.backbone.blocks)):
        torch.nn.init.normal_(layer.weight)
    checkpoints.save(Checkpoint(generator, arguments, description), source.generator_path)


def write_gaussian_bundle(folder: Path, with_generator: bool = False) -> Path:
    original = paths.FOLDER
    paths.FOLDER = folder.parent / "checkpoints"
    try:
        source = save_checkpoints()
        if with_generator:
            save_generator(source)
        export_bundle(source, folder)
    finally:
        paths.FOLDER = original
    return folder
