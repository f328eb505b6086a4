"""The pairs of time and noise at which classes are compared: their weights, fitted to a flow's errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from runtime import bayes
from runtime.bayes import DenoisingBank, Floats

FIRST_TIME, LAST_TIME = 0.05, 0.95
MOST_LOG_WEIGHT = 10.0  # where few images are told apart without error, weights would grow for ever
NEARNESS = 0.01  # of the weights to the bound's


def plain_bank(pairs: int) -> DenoisingBank:
    """Evenly spread times, with weights like those of the likelihood's bound (arXiv 2107.00630, eq. 13)."""
    times = np.linspace(FIRST_TIME, LAST_TIME, pairs) if pairs > 1 else np.array([(FIRST_TIME + LAST_TIME) / 2])
    return DenoisingBank(tuple(times.tolist()), tuple((times / (1 - times)).tolist()), seed=0)


def fit_bank(errors: Floats, labels: Tensor, prior: list[float]) -> DenoisingBank:
    """The plain bank with weights fitted to its pairs' errors (N, K, C) of latents with these labels (N,)."""
    bank = plain_bank(errors.shape[1])
    weights = fit_weights(errors, labels.numpy(), np.array(prior), np.array(bank.times))
    return replace(bank, weights=tuple(weights.tolist()))


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


def rivals(errors: Floats, labels: Tensor, prior: list[float], bank: DenoisingBank, count: int) -> Tensor:
    """For each class itself and those it is most often taken for, by a bank's errors (N, K, C): int64 (C, count)."""
    posterior = bayes.posterior(bayes.denoising_scores(errors, np.array(bank.weights)), np.array(prior))
    taken_for = np.zeros((len(prior), len(prior)))
    np.add.at(taken_for, labels.numpy(), posterior)
    np.fill_diagonal(taken_for, np.inf)
    return torch.from_numpy(np.argsort(-taken_for, axis=1, kind="stable")[:, :count].copy())


def bound_ratio(bank: DenoisingBank, size: int) -> float:
    """How far a bank's weights lie below those with which its scores would be the likelihood's bound in nats.

    The bound on log p(z | y), of latents of this size, is minus the integral of size * t / (1 - t) times the mean
    squared error; the ratio is the geometric mean of the pairs'.
    """
    times, step = np.array(bank.times), (LAST_TIME - FIRST_TIME) / len(bank.times)
    return float(np.exp(np.log(size * step * times / (1 - times) / np.array(bank.weights)).mean()))
