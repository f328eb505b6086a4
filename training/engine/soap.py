"""An optimiser that learns which directions of a weight matrix go together, and takes its steps along these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

SIDES = ("left", "right")


class Soap(torch.optim.Optimizer):
    """Adam in the eigenvectors of Shampoo's preconditioner (SOAP, arXiv 2409.11321), with decoupled weight decay.

    Gradients G of weights, seen as matrices (outputs, all else), have averages of G Gᵀ and Gᵀ G, whose eigenvectors
    are followed by a step of power iteration every `frequency` steps. Vectors are learnt as by Adam. The first step
    only takes statistics. A step costs what products of matrices do as large as the longer side, its columns most
    often: it is for small networks.

    betas: of the averages of gradients, and of their squares and products.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        frequency: int = 10,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "frequency": frequency}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step by the gradients that parameters have; a closure is not taken."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._learn(parameter, parameter.grad, group)
        return None

    def _learn(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta, of_squares), is_matrix = self.state[parameter], group["betas"], parameter.ndim > 1
        gradient = gradient.flatten(1) if is_matrix else gradient[None]
        if not state:
            state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
        if is_matrix:
            _watch(gradient, state, of_squares)
        if state["step"] > 0:
            state["mean"].lerp_(gradient, 1 - beta)
            rotated = _rotated(gradient, state)
            state["square"].lerp_(rotated.square(), 1 - of_squares)
            mean = _rotated(state["mean"], state) / (1 - beta ** state["step"])
            square = state["square"] / (1 - of_squares ** state["step"])
            change = _rotated_back(mean / (square.sqrt() + group["eps"]), state)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(change.view_as(parameter), alpha=-group["lr"])
            if is_matrix and state["step"] % group["frequency"] == 0:
                _follow(state)
        state["step"] += 1


def _watch(gradient: Tensor, state: dict[str, Any], decay: float) -> None:
    """Average products of gradients; the first ones have their eigenvectors taken.

    What is not finite there makes weights so in a few steps, which the training loop reports.
    """
    for side in SIDES:
        products = _products(gradient, side)
        average = state.setdefault(f"{side}_products", torch.zeros_like(products)).lerp_(products, 1 - decay)
        if side not in state:
            state[side] = torch.linalg.eigh(average.nan_to_num(0, 0, 0)).eigenvectors.flip(1).contiguous()


def _products(gradient: Tensor, side: str) -> Tensor:
    return gradient @ gradient.T if side == "left" else gradient.T @ gradient


def _rotated(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    """A matrix as the eigenvectors of both sides see it; a vector as it is."""
    return state["left"].T @ matrix @ state["right"] if "left" in state else matrix


def _rotated_back(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    return state["left"] @ matrix @ state["right"].T if "left" in state else matrix


def _follow(state: dict[str, Any]) -> None:
    """Bring eigenvectors nearer to those of today's products, in the order of their eigenvalues, with their squares."""
    for dim, side in enumerate(SIDES):
        products, vectors = state[f"{side}_products"], state[side]
        order = (vectors * (products @ vectors)).sum(0).argsort(descending=True)
        state["square"] = state["square"].index_select(dim, order)
        state[side] = torch.linalg.qr(products @ vectors[:, order]).Q.contiguous()
