"""Teach another decoder, such as a narrower one, to draw what a model's own draws."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoints, parallel
from training.checkpoints import Checkpoint
from training.engine.batches import image_parts
from training.engine.loop import Job, Losses, fit
from training.engine.runs import Task
from training.networks.autoencoders import AutoEncoder, deviation
from training.networks.blocks import channels_last
from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.paths import DECODER


def train_decoder(task: Task, kind: str, autoencoder: Checkpoint[AutoEncoder], flow: Checkpoint[Flow]) -> Path:
    """Train and save the autoencoder's dev checkpoint, with its encoder as it is, at every epoch; returns its path.

    The task's arguments are those in which the new decoder differs, which begins with the old one's weights where their
    shapes are the same; autoencoder and flow: what it learns from, which go together. The flow draws as when finished.
    """
    options, encoder = task.options, checkpoints.encoder_sha256(autoencoder.network)
    arguments = autoencoder.arguments | task.arguments
    sampler = checkpoints.sampler_of(flow)
    identity = {"model": DECODER, "autoencoder": kind, "encoder_sha256": encoder}
    facts = {"sampler": asdict(sampler)}  # the flow may have been finished otherwise since
    run = task.run(kind, replace(autoencoder, arguments=arguments), identity, facts=facts)
    if run.is_complete():
        return run.checkpoint
    torch.manual_seed(options.seed)
    train, parts = image_parts(task.dataset, task.root, options.batch_size)
    network = type(autoencoder.network)(**arguments)
    _begin_as(network, autoencoder.network)
    network.encoder.requires_grad_(False)
    channels_last(network, options.device)
    original = Original(autoencoder, options.device)
    drawing = Drawing(flow.network, autoencoder.network, sampler.deterministic()).requires_grad_(False).eval()
    job = Job(network, train, DecoderLoss(original, drawing), parts, {"original": original})
    fit(job, run, run.state(), task.track)
    parallel.wait()
    run.finish()
    return run.checkpoint


def _begin_as(network: nn.Module, other: nn.Module) -> None:
    """Take the other's weights where they have the same shape."""
    state = network.state_dict()
    given = {name: each for name, each in other.state_dict().items() if name in state}
    network.load_state_dict(state | {name: each for name, each in given.items() if each.shape == state[name].shape})


class Original:
    """The autoencoder that a decoder learns from, which a snapshot keeps: the dev checkpoint may have been it."""

    def __init__(self, autoencoder: Checkpoint[AutoEncoder], device: torch.device) -> None:
        self._arguments, self._device = autoencoder.arguments, device
        self.network = channels_last(autoencoder.network, device).requires_grad_(False).eval()

    def state_dict(self) -> dict[str, Any]:
        """Arguments and weights."""
        return {"arguments": self._arguments, "weights": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the autoencoder whose state it is."""
        self._arguments = state["arguments"]
        network = type(self.network)(**self._arguments)
        network.load_state_dict(state["weights"])
        self.network = channels_last(network, self._device).requires_grad_(False).eval()


class DecoderLoss:
    """Squared error of an image's pixels, before they are cut, to what the original makes of the same latents.

    Half of the latents are drawn by the flow, as in use; half are of images, so that reconstructions stay good.
    """

    def __init__(self, original: Original, drawing: Drawing) -> None:
        self._original, self._drawing = original, drawing

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Losses:
        """The loss of an AutoEncoder for images uint8 (N, 1, 28, 28) and labels (N,)."""
        assert isinstance(model, AutoEncoder)
        images, labels = batch
        with torch.no_grad():
            latents = torch.cat([self._drawn(labels), self._encoded(images)])
            wanted = self._original.network.draw(latents)
        return {"loss": (model.draw(latents) - wanted).square().flatten(1).sum(1).mean()}

    def _drawn(self, labels: Tensor) -> Tensor:
        noise = parallel.randn(len(labels), labels.device, *self._drawing.flow.latent_shape)
        return self._drawing.latents(noise, labels)

    def _encoded(self, images: Tensor) -> Tensor:
        mean, log_variance = self._original.network.encode(images.float() / 255)
        return mean + deviation(mean, log_variance) * parallel.randn_like(mean)
