"""Classification in stages: which pairs of the denoising rule are asked about which classes of which latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Pairs, the classes kept (R, M) or None for all, and the rows (R,) of the latents, or None for all, to what the pairs
# add to these classes' scores: (R, M).
Ask = Callable[[list[int], Tensor | None, Tensor | None], Tensor]
Stage = tuple[list[int], int]  # pairs, and of how many classes they are asked
AT_ONCE = 8  # pairs that are asked in one evaluation of the flow, at most


def joined(stages: Sequence[tuple[int, int]], first_alone: bool) -> list[Stage]:
    """Stages of one pair each as those with up to AT_ONCE, where neighbours ask as many classes.

    first_alone: the first stage stays as it is, since it may settle an image.
    """
    found: list[Stage] = []
    for index, (pair, count) in enumerate(stages):
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
