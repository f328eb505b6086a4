"""Fit what turns a flow's scores into a posterior, on validation data, and choose the rule to classify by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from runtime import bayes
from runtime.bayes import RULES, DenoisingBank, Floats, Rule
from runtime.scoring import Scorer
from runtime.tracking import Tracker, untracked
from training.networks.flows import Flow
from training.options import FlowObjective
from training.staged_reading import CERTAIN, SETTLED, StagedReading, choose_schedule, doubtful, settling

PAIRS = FlowObjective.pairs
UNCALIBRATED_PAIRS = 4
FIRST_TIME, LAST_TIME = 0.05, 0.95
LIKELIHOOD_STEPS = 8
COMPARED = 200_000  # latents x classes x elements on which the rules are compared; the exact likelihood is slow
FITTED_ROWS = 100_000  # latents x classes on which the denoising weights are fitted
LEAST_TEMPERATURE, MOST_TEMPERATURE = 2.0**-5, 2.0**10
MOST_LOG_WEIGHT = 10.0  # where few images are told apart without error, weights would grow for ever
SURE = 3.0  # standard errors
NEARNESS = 0.01  # of the denoising weights to the bound's
LEAST_LIKELY = 0.01  # the share of validation images that would be called unlike the training data
DENSITIES = 98_000  # latents x elements whose log-density decides that
_PIECE = 8  # latents between two reports of progress


def plain_bank(pairs: int) -> DenoisingBank:
    """Evenly spread times, with weights like those of the likelihood's bound (arXiv 2107.00630, eq. 13)."""
    times = np.linspace(FIRST_TIME, LAST_TIME, pairs) if pairs > 1 else np.array([(FIRST_TIME + LAST_TIME) / 2])
    return DenoisingBank(tuple(times.tolist()), tuple((times / (1 - times)).tolist()), seed=0)


# What a flow has before it is calibrated: weights like the likelihood bound's, and scores taken as they are.
UNCALIBRATED: dict[str, Any] = {
    "rule": "denoising",
    "likelihood_steps": LIKELIHOOD_STEPS,
    "temperatures": dict.fromkeys(RULES, 1.0),
    "bank": asdict(plain_bank(UNCALIBRATED_PAIRS)),
    "certain": CERTAIN,
    "doubtful": 1.0,
    "settled": 1.0,
    "unsettled": 1.0,
    "emphasis": 1.0,
    "validation": {},
}


def calibrate(
    flow: Flow, latents: Tensor, labels: Tensor, prior: list[float], pairs: int = PAIRS, track: Tracker = untracked
) -> dict[str, Any]:
    """The "classifier" part of a manifest, from standardised validation latents (N, C, 7, 7) and labels (N,).

    The weights of the denoising bank's pairs maximise the posterior's likelihood. The rules are compared on latents
    that the weights were not fitted on, where there are enough.
    """
    z, y, p = latents.numpy(), labels.numpy(), np.array(prior)
    few = max(1, COMPARED // (len(prior) * z[0].size))
    fitted = slice(few if len(z) > 2 * few else 0, few + FITTED_ROWS // len(prior))
    errors = errors_of(flow, latents[fitted], plain_bank(pairs), len(prior), track)
    bank = fit_bank(errors, labels[fitted], prior)
    scorer = _scorer(flow, len(prior), bank)
    reading = StagedReading(errors, np.array(bank.weights), p, _sieved(flow, latents[fitted]))
    schedule = choose_schedule(reading, y[fitted])
    certain, share = doubtful(reading.posterior(schedule))
    scores = {rule: _in_pieces(partial(scorer, rule=rule), z[:few], track, rule) for rule in RULES}
    own: dict[Rule, float] = {
        rule: fit_temperature(found, y[:few], p) for rule, found in scores.items() if rule != "denoising"
    }
    posteriors = {rule: bayes.posterior(found, p, own.get(rule, 1.0)) for rule, found in scores.items()}
    correct = {rule: found.argmax(1) == y[:few] for rule, found in posteriors.items()}
    temperature = _temperature_of(bank, z[0].size)  # of denoising, by which its fitted weights are multiplied
    return {
        "rule": choose_rule(correct),
        "likelihood_steps": LIKELIHOOD_STEPS,
        "temperatures": {**own, "denoising": temperature},
        "bank": asdict(replace(bank, weights=tuple(temperature * weight for weight in bank.weights))),
        "stages": schedule,
        "settled": SETTLED,
        **settling(reading.posterior(schedule[:1]), reading.posterior(schedule)),
        "certain": certain,
        "doubtful": share,
        "validation": {
            "images": len(y[:few]),
            "accuracy": {rule: float(found.mean()) for rule, found in correct.items()},
        },
        "least_log_density": float(np.quantile(_log_densities(scorer, z, track), LEAST_LIKELY)),
    }


def choose_rule(correct: dict[Rule, NDArray[np.bool_]]) -> Rule:
    """The cheapest rule that is not clearly worse than the most accurate, from what each read right (N,).

    Clearly is by more than SURE standard errors of the difference, on the same images.
    """
    best = max(RULES, key=lambda rule: correct[rule].mean())

    def is_close(rule: Rule) -> bool:
        behind = correct[best].astype(np.float64) - correct[rule]
        return bool(behind.mean() <= SURE * behind.std() / math.sqrt(len(behind)))

    return next(rule for rule in RULES if is_close(rule))


def errors_of(flow: Flow, latents: Tensor, bank: DenoisingBank, classes: int, track: Tracker = untracked) -> Floats:
    """Errors (N, K, classes) of standardised latents (N, C, 7, 7) for a bank's K pairs, whatever their weights."""
    return _in_pieces(_scorer(flow, classes, bank).denoising_errors, latents.numpy(), track, "denoising")


def fit_bank(errors: Floats, labels: Tensor, prior: list[float]) -> DenoisingBank:
    """The plain bank with weights fitted to its pairs' errors (N, K, C) of latents with these labels (N,)."""
    bank = plain_bank(errors.shape[1])
    weights = fit_weights(errors, labels.numpy(), np.array(prior), np.array(bank.times))
    return replace(bank, weights=tuple(weights.tolist()))


@torch.no_grad()
def _sieved(flow: Flow, latents: Tensor) -> Floats | None:
    """The logits of a flow's sieve (N, C), where it has one."""
    if flow.sieve is None:
        return None
    found: Floats = flow.sieve(latents.to(flow.element_mean.device)).cpu().numpy()
    return found


def _temperature_of(bank: DenoisingBank, size: int) -> float:
    """How far fitted weights lie below those with which the scores would be the likelihood's bound in nats.

    The bound on log p(z | y) is minus the integral of size * t / (1 - t) times the mean squared error.
    """
    times, step = np.array(bank.times), (LAST_TIME - FIRST_TIME) / len(bank.times)
    ratio = np.exp(np.log(size * step * times / (1 - times) / np.array(bank.weights)).mean())
    return float(np.clip(ratio, LEAST_TEMPERATURE, MOST_TEMPERATURE))


def rivals(errors: Floats, labels: Tensor, prior: list[float], bank: DenoisingBank, count: int) -> Tensor:
    """For each class itself and those it is most often taken for, by a bank's errors (N, K, C): int64 (C, count)."""
    posterior = bayes.posterior(bayes.denoising_scores(errors, np.array(bank.weights)), np.array(prior))
    taken_for = np.zeros((len(prior), len(prior)))
    np.add.at(taken_for, labels.numpy(), posterior)
    np.fill_diagonal(taken_for, np.inf)
    return torch.from_numpy(np.argsort(-taken_for, axis=1, kind="stable")[:, :count].copy())


def _log_densities(scorer: Scorer, z: Floats, track: Tracker) -> Floats:
    chosen = z[:: math.ceil(len(z) * z[0].size / DENSITIES)]
    return _in_pieces(scorer.log_density, chosen, track, "density")


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


def fit_weights(errors: Floats, labels: NDArray[np.int64], prior: Floats, times: Floats) -> Floats:
    """Weights (K,), all positive, of errors (N, K, C) that maximise the mean log-posterior of labels (N,).

    They are held near a multiple of t / (1 - t), which is what the likelihood's bound has (arXiv 2107.00630, eq. 13).
    """
    e = torch.from_numpy(errors - errors.min(axis=2, keepdims=True)).double()
    target, log_prior = torch.from_numpy(labels), torch.from_numpy(prior).log()
    bound = torch.from_numpy(np.log(times) - np.log1p(-times))
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    deviations = torch.zeros(len(times), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, deviations], max_iter=200, line_search_fn="strong_wolfe")

    def weights() -> Tensor:
        return (bound + scale + deviations).clamp(-MOST_LOG_WEIGHT, MOST_LOG_WEIGHT).exp()

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = log_prior - torch.einsum("nkc,k->nc", e, weights())
        value = F.cross_entropy(logits, target) + NEARNESS * deviations.square().mean()
        value.backward()
        return value

    optimiser.step(loss)
    return weights().detach().numpy()


def fit_temperature(scores: Floats, labels: NDArray[np.int64], prior: Floats) -> float:
    """The temperature that maximises the mean log-posterior of labels (N,) under scores (N, C)."""

    def loss(temperature: float) -> float:
        chosen = bayes.posterior(scores, prior, temperature)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-30)).mean())

    return min(np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 121).tolist(), key=loss)


def _scorer(flow: Flow, classes: int, bank: DenoisingBank) -> Scorer:
    field = NumpyFlow(flow)
    return Scorer(classes, flow.latent_shape, bank, LIKELIHOOD_STEPS, field.velocity, field.velocity_and_divergence)


def _in_pieces(function: Callable[[Floats], Floats], z: Floats, track: Tracker, label: str) -> Floats:
    pieces = [z[start : start + _PIECE] for start in range(0, len(z), _PIECE)]
    return np.concatenate([function(piece) for piece in track(pieces, len(pieces), f"calibrating: {label}")])
