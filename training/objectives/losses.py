"""Training objectives, each a mean over the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training import parallel
from training.networks.autoencoders import AutoEncoder, deviation, pixels_of, sigmoids_of
from training.objectives.adversary import Adversary
from training.objectives.probe import LatentProbe
from training.objectives.tuning import VelocityField
from training.options import AutoencoderObjective

FEATURE_WEIGHT = 40.0
ADVERSARIAL_WEIGHT = 2.0


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats, summed over a latent: (N,)."""
    terms = mean.square() + log_variance.exp() - log_variance - 1
    return 0.5 * terms.flatten(1).sum(1)


@dataclass(frozen=True)
class ReconstructionLoss:
    """How far images are from what they should be.

    Binary cross-entropy of the pixels' sigmoids in nats, summed, plus FEATURE_WEIGHT times the L1 distance in a
    classifier's features (arXiv 1603.08155) and, in training, ADVERSARIAL_WEIGHT times what a critic of patches says.
    """

    features: Callable[[Tensor], list[Tensor]]
    adversary: Adversary | None = None

    def __call__(self, logits: Tensor, images: Tensor, labels: Tensor, training: bool) -> dict[str, Tensor]:
        """Terms and their sum "reconstruction", for the logits of images and those wanted, in [0, 1], of labels (N,).

        Both have shape (N, 1, 28, 28); pixels_of says which images the logits are of.
        """
        found = pixels_of(logits)
        each = F.binary_cross_entropy_with_logits(logits, sigmoids_of(images), reduction="none")
        cross_entropy = each.flatten(1).sum(1).mean()
        features = feature_distance(self.features, found, images)
        losses = {"sigmoid_cross_entropy": cross_entropy, "features": features}
        total = cross_entropy + FEATURE_WEIGHT * features
        if training and self.adversary is not None:
            losses["adversarial"] = self.adversary.loss(images, found, labels)
            total = total + ADVERSARIAL_WEIGHT * losses["adversarial"]
        return {"reconstruction": total, **losses}


def autoencoder_losses(
    model: AutoEncoder,
    images: Tensor,
    labels: Tensor,
    reconstruction: ReconstructionLoss,
    objective: AutoencoderObjective,
    probe: LatentProbe | None = None,
) -> dict[str, Tensor]:
    """Reconstruction loss plus what the latents cost, for images (N, 1, 28, 28) in [0, 1] and labels (N,).

    probe: the classifier that reads them, where there is one.
    """
    latents, log_variance = model.encode(images)
    costs: dict[str, Tensor] = {}
    weights = {"kl": objective.alpha, "class": objective.class_weight}
    if log_variance is not None:
        costs["kl"] = kl_divergence(latents, log_variance).mean()
        if model.training:
            latents = latents + deviation(latents, log_variance) * parallel.randn_like(latents)
    if probe is not None:
        costs["class"] = probe.loss(latents, labels, model.training)
    losses = reconstruction(model.decoder(latents), images, labels, model.training)
    total = losses["reconstruction"] + sum(weights[name] * cost for name, cost in costs.items())
    return {"loss": total, **losses, **costs}


def feature_distance(features: Callable[[Tensor], list[Tensor]], images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of features over their mean size, summed over the layers."""
    with torch.no_grad():
        wanted = features(targets)
    return torch.stack(
        [
            (found - goal).abs().mean() / parallel.mean(goal.abs().mean())
            for found, goal in zip(features(images), wanted, strict=True)
        ]
    ).sum()


def sample_times(count: int, device: torch.device) -> Tensor:
    """Logit-normal times in (0, 1), which keep away from the ends (arXiv 2403.03206, section 3.1): (count,)."""
    return torch.sigmoid(parallel.randn(count, device))


def flow_matching_loss(flow: VelocityField, latents: Tensor, labels: Tensor, null_label: int, dropout: float) -> Tensor:
    """Mean squared error of the velocity along straight paths from noise to latents (arXiv 2210.02747, eq. 23).

    A share `dropout` of the labels is replaced by `null_label`, so that one network learns the guided and the
    unguided field (arXiv 2207.12598).
    """
    t = sample_times(len(latents), latents.device)
    noise = parallel.randn_like(latents)
    if dropout:
        dropped = parallel.rand(len(labels), labels.device) < dropout
        labels = torch.where(dropped, null_label, labels)
    time = t.view(-1, *[1] * (latents.ndim - 1))
    x = (1 - time) * noise + time * latents
    return F.mse_loss(flow(x, t, labels), latents - noise)
