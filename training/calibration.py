"""Fit what turns a flow's scores into a posterior, on validation data, and choose the rule to classify by."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from runtime import bayes
from runtime.bayes import RULES, Floats, Rule
from runtime.scoring import Scorer
from runtime.tracking import Tracker, untracked
from training.denoising_bank import bound_ratio, fit_bank, plain_bank
from training.networks.flows import Flow
from training.options import FlowObjective
from training.scoring import LIKELIHOOD_STEPS, errors_of, in_pieces, scorer_of, sieved
from training.staged_reading import CERTAIN, SETTLED, StagedReading, choose_schedule, doubtful, settling

PAIRS = FlowObjective.pairs
UNCALIBRATED_PAIRS = 4
COMPARED = 200_000  # latents x classes x elements on which the rules are compared; the exact likelihood is slow
FITTED_ROWS = 100_000  # latents x classes on which the denoising weights are fitted
LEAST_TEMPERATURE, MOST_TEMPERATURE = 2.0**-5, 2.0**10
SURE = 3.0  # standard errors
LEAST_LIKELY = 0.01  # the share of validation images that would be called unlike the training data
DENSITIES = 98_000  # latents x elements whose log-density decides that

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
    scorer = scorer_of(flow, len(prior), bank)
    reading = StagedReading(errors, np.array(bank.weights), p, sieved(flow, latents[fitted]))
    schedule = choose_schedule(reading, y[fitted])
    certain, share = doubtful(reading.posterior(schedule))
    scores = {rule: in_pieces(partial(scorer, rule=rule), z[:few], track, rule) for rule in RULES}
    own: dict[Rule, float] = {
        rule: fit_temperature(found, y[:few], p) for rule, found in scores.items() if rule != "denoising"
    }
    posteriors = {rule: bayes.posterior(found, p, own.get(rule, 1.0)) for rule, found in scores.items()}
    correct = {rule: found.argmax(1) == y[:few] for rule, found in posteriors.items()}
    # Of denoising, by which its fitted weights are multiplied so that its scores are in nats.
    temperature = float(np.clip(bound_ratio(bank, z[0].size), LEAST_TEMPERATURE, MOST_TEMPERATURE))
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


def fit_temperature(scores: Floats, labels: NDArray[np.int64], prior: Floats) -> float:
    """The temperature that maximises the mean log-posterior of labels (N,) under scores (N, C)."""

    def loss(temperature: float) -> float:
        chosen = bayes.posterior(scores, prior, temperature)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-30)).mean())

    return min(np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 121).tolist(), key=loss)


def _log_densities(scorer: Scorer, z: Floats, track: Tracker) -> Floats:
    chosen = z[:: math.ceil(len(z) * z[0].size / DENSITIES)]
    return in_pieces(scorer.log_density, chosen, track, "density")
