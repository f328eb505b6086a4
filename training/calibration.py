"""Fit what turns a flow's scores into a posterior, on validation data, and find the rule that classifies best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from runtime import bayes, noise
from runtime.bayes import DenoisingBank, Floats
from runtime.tracking import Tracker, untracked
from training.flows import Flow

PAIRS = 64
FIRST_TIME, LAST_TIME = 0.05, 0.95
BANK_SEED = 0
LIKELIHOOD_STEPS = 8
COMPARED_ROWS = 5000  # pairs of latent and class on which the rules are compared; the exact likelihood is slow
_CHUNK_ROWS = 20_000  # evaluations of the flow at a time

# What a flow has before it is calibrated: a plain bank, and scores taken as they are.
UNCALIBRATED: dict[str, Any] = {
    "rule": "denoising",
    "likelihood_steps": LIKELIHOOD_STEPS,
    "temperatures": {"denoising": 1.0, "ode": 1.0, "likelihood": 1.0},
    "bank": asdict(DenoisingBank(tuple(np.linspace(FIRST_TIME, LAST_TIME, PAIRS).tolist()), (1.0,) * PAIRS, BANK_SEED)),
    "validation": {},
}


def calibrate(
    flow: Flow, latents: Tensor, labels: Tensor, prior: list[float], track: Tracker = untracked
) -> dict[str, Any]:
    """The "classifier" part of a manifest, from standardised validation latents (N, C, 7, 7) and labels (N,).

    Pairs of the denoising bank have evenly spread times; their weights maximise the posterior's likelihood.
    """
    field = NumpyFlow(flow)
    classes = len(prior)
    times = np.linspace(FIRST_TIME, LAST_TIME, PAIRS)
    shared_noise = noise.normal(BANK_SEED, 0, PAIRS, flow.latent_shape)
    z = latents.numpy()
    errors = np.concatenate(
        [
            bayes.denoising_errors(field.velocity, part, times, shared_noise, classes)
            for part in _chunks(z, classes * PAIRS, track, "calibrating: denoising")
        ]
    )
    weights = fit_weights(errors, labels.numpy(), np.array(prior))
    compared = max(1, COMPARED_ROWS // classes)
    few, few_labels = z[:compared], labels.numpy()[:compared]
    scores = {
        "denoising": bayes.denoising_scores(errors[:compared], weights),
        "ode": _density_scores(field, few, classes, False, track),
        "likelihood": _density_scores(field, few, classes, True, track),
    }
    accuracy = {rule: _accuracy(found, few_labels, np.array(prior)) for rule, found in scores.items()}
    return {
        "rule": max(accuracy, key=lambda rule: accuracy[rule]),
        "likelihood_steps": LIKELIHOOD_STEPS,
        "temperatures": {
            rule: 1.0 if rule == "denoising" else fit_temperature(found, few_labels, np.array(prior))
            for rule, found in scores.items()
        },
        "bank": asdict(DenoisingBank(tuple(times.tolist()), tuple(weights.tolist()), BANK_SEED)),
        "validation": {"images": len(few), "accuracy": accuracy},
    }


class NumpyFlow:
    """A flow on numpy arrays, for the functions of runtime.bayes."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._device = flow.element_mean.device

    @torch.no_grad()
    def velocity(self, x: Floats, t: Floats, labels: NDArray[np.int64]) -> Floats:
        found: Floats = (
            self._flow(self._floats(x), self._floats(t), torch.from_numpy(labels).to(self._device)).cpu().numpy()
        )
        return found

    @torch.no_grad()
    def velocity_and_divergence(self, x: Floats, t: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
        found = self._flow.velocity_and_divergence(
            self._floats(x), self._floats(t), torch.from_numpy(labels).to(self._device)
        )
        return found[0].cpu().numpy(), found[1].cpu().numpy()

    def _floats(self, array: Floats) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(self._device)


def fit_weights(errors: Floats, labels: NDArray[np.int64], prior: Floats) -> Floats:
    """Weights (K,), none negative, of errors (N, K, C) that maximise the mean log-posterior of labels (N,)."""
    e = torch.from_numpy(errors - errors.min(axis=2, keepdims=True)).double()
    target, log_prior = torch.from_numpy(labels), torch.from_numpy(prior).log()
    logarithms = torch.zeros(e.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logarithms], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = log_prior - torch.einsum("nkc,k->nc", e, logarithms.exp())
        value = F.cross_entropy(logits, target) + 1e-4 * logarithms.square().mean()
        value.backward()
        return value

    optimiser.step(loss)
    return logarithms.detach().exp().numpy()


def fit_temperature(scores: Floats, labels: NDArray[np.int64], prior: Floats) -> float:
    """The temperature, from 2^-5 to 2^10, that maximises the mean log-posterior of labels (N,) under scores (N, C)."""

    def loss(temperature: float) -> float:
        chosen = bayes.posterior(scores, prior, temperature)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-30)).mean())

    return min((2.0 ** (power / 8) for power in range(-40, 81)), key=loss)


def _density_scores(field: NumpyFlow, z: Floats, classes: int, divergence: bool, track: Tracker) -> Floats:
    """Log p(z | y) with the divergence term or without: (N, classes)."""
    found = []
    rows_of_one = classes * math.prod(z.shape[1:] if divergence else ())
    for part in _chunks(z, rows_of_one, track, f"calibrating: {'likelihood' if divergence else 'ode'}"):
        labels = np.tile(np.arange(classes), len(part))

        def velocity_and_divergence(x: Floats, t: float, labels: NDArray[np.int64] = labels) -> tuple[Floats, Floats]:
            times = np.full(len(x), t)
            if divergence:
                return field.velocity_and_divergence(x, times, labels)
            return field.velocity(x, times, labels), np.zeros(len(x))

        rows = np.repeat(part, classes, axis=0)
        found.append(bayes.log_density(velocity_and_divergence, rows, LIKELIHOOD_STEPS).reshape(len(part), classes))
    return np.concatenate(found)


def _chunks(z: Floats, rows_of_one: int, track: Tracker, label: str) -> Iterable[Floats]:
    """Pieces of z (N, ...), of which each element costs so many evaluations of the flow."""
    size = max(1, _CHUNK_ROWS // rows_of_one)
    pieces = [z[start : start + size] for start in range(0, len(z), size)]
    return track(pieces, len(pieces), label)


def _accuracy(scores: Floats, labels: NDArray[np.int64], prior: Floats) -> float:
    return float((bayes.posterior(scores, prior).argmax(1) == labels).mean())
