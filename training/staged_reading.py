"""Classification in stages: which pairs of the denoising rule are asked about which classes of which latents.

What is asked, and how calibration chooses it on validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.bayes import Floats

# Pairs, the classes kept (R, M) or None for all, and the rows (R,) of the latents, or None for all, to what the pairs
# add to these classes' scores: (R, M).
Ask = Callable[[list[int], Tensor | None, Tensor | None], Tensor]
Stage = tuple[list[int], int]  # pairs, and of how many classes they are asked
Schedule = list[tuple[int, int]]  # pairs in the order in which they are asked, each with a number of classes

SETTLED = 0.97  # the posterior of a class by the first stage from which on no more is asked
CERTAIN = 0.9  # the posterior of a class from which on an image is not read again, moved; less where too many would be
MOST_DOUBTFUL = 0.125  # the share of validation images that are read again at most
LOST = 0.005  # of the posterior's Brier score on validation images: what stages may add to it
MOST_STAGES = 8
AT_ONCE = 8  # pairs that are asked in one evaluation of the flow, at most


def joined(schedule: Sequence[tuple[int, int]], first_alone: bool) -> list[Stage]:
    """The stages of a schedule: up to AT_ONCE neighbouring pairs each, where these ask as many classes.

    first_alone: the first stage stays as it is, since it may settle an image.
    """
    found: list[Stage] = []
    for index, (pair, count) in enumerate(schedule):
        if found and found[-1][1] == count and len(found[-1][0]) < AT_ONCE and not (first_alone and index == 1):
            found[-1][0].append(pair)
        else:
            found.append(([pair], count))
    return found


def staged_scores(
    ask: Ask,
    stages: Sequence[Stage],
    log_prior: Tensor,
    sieved: Tensor | None = None,
    settled: float = 1.0,
    emphasis: float = 1.0,
) -> Tensor:
    """Log p(z | y) up to a constant of the latent, (N, C), where classes drop out, the least probable ones first.

    What a pair would have added to a class that has dropped out is taken to be the least that it adds to another.
    log_prior: of p(y), (C,); sieved: a sieve's logits (N, C), where there is one, which say which classes drop out
    before the first stage: they are taken to be as probable as the least probable of the others; settled: a posterior,
    if below 1, such that no more is asked of latents to which the first stage gives a class as much; emphasis: by which
    their scores are multiplied, for the pairs that would have agreed.
    """
    first, *later = stages
    whole, ranking = _first(ask, *first, log_prior, sieved)
    if not later:
        return whole
    rows, scores = None, whole
    if settled < 1:
        rows = ((whole + log_prior).softmax(1).amax(1) < settled).nonzero()[:, 0]
        scores, ranking = whole[rows], ranking[rows]
    for pairs, count in later:
        if count == len(log_prior):
            scores = scores + ask(pairs, None, rows)
            ranking = scores + log_prior
            continue
        kept = ranking.topk(count).indices
        added = ask(pairs, kept, rows)
        of_kept = scores.gather(1, kept) + added
        scores = (scores + added.amin(1, keepdim=True)).scatter(1, kept, of_kept)
        ranking = _among(kept, of_kept, log_prior)
    return scores if rows is None else (emphasis * whole).index_copy(0, rows, scores)


def _first(ask: Ask, pairs: list[int], count: int, log_prior: Tensor, sieved: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scores after the first stage, and by what the classes of the next one are chosen: both (N, C)."""
    if sieved is None or count == len(log_prior):
        scores = ask(pairs, None, None)
        return scores, scores + log_prior
    kept = sieved.topk(count).indices
    of_kept = ask(pairs, kept, None)
    least = (of_kept + log_prior[kept]).amin(1, keepdim=True)
    return (least - log_prior).scatter(1, kept, of_kept), _among(kept, of_kept, log_prior)


def _among(kept: Tensor, scores: Tensor, log_prior: Tensor) -> Tensor:
    """Log-posteriors (N, C), up to a constant, of the classes kept (N, M) by their scores; none of the others."""
    nothing = torch.full_like(log_prior, -torch.inf).expand(kept.shape[0], -1)
    return nothing.scatter(1, kept, scores + log_prior[kept])


class StagedReading:
    """The posteriors by the denoising rule in any stages, from errors (N, K, C) of all pairs and classes."""

    def __init__(self, errors: Floats, weights: Floats, prior: Floats, sieved: Floats | None = None) -> None:
        """Weights (K,): of the pairs; prior (C,): p(y); sieved (N, C): the logits of a sieve, where there is one."""
        self.classes, self.is_sieved = errors.shape[2], sieved is not None
        self._parts = torch.from_numpy(-errors * weights[None, :, None]).double()
        self._log_prior = torch.from_numpy(prior).double().log()
        self._sieved = None if sieved is None else torch.from_numpy(sieved).double()

    def posterior(self, schedule: Schedule) -> NDArray[np.float64]:
        """P(y | z), (N, C), after all its stages, whether or not the first one settles it."""

        def ask(pairs: list[int], kept: Tensor | None, rows: Tensor | None) -> Tensor:
            added = self._parts[:, pairs].sum(1)
            return added if kept is None else added.gather(1, kept)

        scores = staged_scores(ask, joined(schedule, first_alone=True), self._log_prior, self._sieved)
        found: NDArray[np.float64] = (scores + self._log_prior).softmax(1).numpy()
        return found

    def order(self) -> list[int]:
        """The pairs, the one first that alone reads most images as all of them do."""
        chosen = (self._parts.sum(1) + self._log_prior).argmax(1)
        agree = ((self._parts + self._log_prior).argmax(2) == chosen[:, None]).double().mean(0)
        order: list[int] = np.argsort(-agree.numpy(), kind="stable").tolist()
        return order


def choose_schedule(reading: StagedReading, labels: NDArray[np.int64]) -> Schedule:
    """In which order to ask the pairs, and of how many classes each.

    All begin with all classes. Of what drops classes from one stage on, that is done again and again which adds least
    to the Brier score of labels (N,), the squared error of the posterior, for each evaluation that it saves, as long as
    the score is at most LOST of it more than with all. The first stage keeps all where there is no sieve.
    """
    order, rows = reading.order(), np.arange(len(labels))
    groups = np.array_split(order, min(MOST_STAGES, len(order)))

    def staged(counts: list[int]) -> Schedule:
        return [(int(pair), count) for group, count in zip(groups, counts, strict=True) for pair in group]

    def brier_score(counts: list[int]) -> float:
        posterior = reading.posterior(staged(counts))
        return float((np.square(posterior).sum(1) - 2 * posterior[rows, labels] + 1).mean())

    counts = [reading.classes] * len(groups)
    now = brier_score(counts)
    allowed = (1 + LOST) * now
    while True:
        found = []
        for stage in range(0 if reading.is_sieved else 1, len(groups)):
            fewer = [*counts[:stage], *(min(count, _fewer(counts[stage])) for count in counts[stage:])]
            saved = sum(len(group) * (a - b) for group, a, b in zip(groups, counts, fewer, strict=True))
            if saved and (then := brier_score(fewer)) <= allowed:
                found.append(((then - now) / saved, then, fewer))
        if not found:
            return staged(counts)
        _, now, counts = min(found)


def _fewer(count: int) -> int:
    """The next smaller number of classes that is tried: four fifths, and 2 at least."""
    return min(count, max(2, count * 4 // 5))


def settling(first: Floats, whole: Floats, settled: float = SETTLED) -> dict[str, float]:
    """What the posteriors (N, C) by the first stage say of those by all stages.

    "unsettled": the share of images to no class of which the first stage gives the posterior `settled`; "emphasis": how
    many times as large the others' log-odds between the two likeliest classes are by all stages, on average.
    """
    is_settled = first.max(1) >= settled
    likeliest = [np.sort(each[is_settled], axis=1)[:, -2:] for each in (first, whole)]
    odds = [np.diff(np.log(np.maximum(each, np.finfo(each.dtype).tiny))).sum() for each in likeliest]
    emphasis = float(odds[1] / odds[0]) if is_settled.any() else 1.0
    return {"unsettled": float(1 - is_settled.mean()), "emphasis": emphasis}


def doubtful(posterior: Floats, certain: float = CERTAIN, most: float = MOST_DOUBTFUL) -> tuple[float, float]:
    """Below which posterior of every class images are in doubt, and what share of these (N, C) are."""
    surest = posterior.max(1)
    threshold = min(certain, float(np.quantile(surest, most)))
    return threshold, float((surest < threshold).mean())
