"""What is kept of a network that learns: a moving average of its weights, and a share of those it began with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """The exponential moving average of a network's weights, drawn towards the initial ones.

    What two trainings of the same network came to, or one of them and what it began with, is often better halfway
    between (arXiv 2109.01903, 2203.05482): each has wandered off in a direction of its own.
    """

    def __init__(self, model: nn.Module, decay: float, initial_share: float = 0.0) -> None:
        """initial_share: of the weights that the model has now, in `network`; from 0 to 1."""
        self._moving = AveragedModel(model, multi_avg_fn=_moving_average(decay), use_buffers=True)
        self._share = initial_share
        self._initial = {name: tensor.clone() for name, tensor in model.state_dict().items()} if initial_share else {}

    def update(self, model: nn.Module) -> None:
        """Take the weights after a step into the average."""
        self._moving.update_parameters(model)

    def network(self) -> nn.Module:
        """The network with the weights to keep, in evaluation mode."""
        kept: nn.Module = self._moving.module
        if self._share:
            kept = copy.deepcopy(kept)
            with torch.no_grad():
                for name, tensor in kept.state_dict().items():
                    if tensor.is_floating_point():
                        tensor.lerp_(self._initial[name], self._share)
        return kept.eval()

    def state_dict(self) -> dict[str, Any]:
        """All that the average would be another without."""
        return {"moving": self._moving.state_dict(), "initial": self._initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that state_dict gave."""
        self._moving.load_state_dict(state["moving"])
        self._initial = {name: tensor.to(self._device()) for name, tensor in state["initial"].items()}

    def _device(self) -> torch.device:
        return next(self._moving.parameters()).device


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Exponential moving average whose memory grows with the steps taken, up to `decay`."""

    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        taken = int(count)
        weight = 1 - min(decay, (1 + taken) / (10 + taken))
        floats = [(a, v) for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
        if floats:
            torch._foreach_lerp_([a for a, _ in floats], [v for _, v in floats], weight)

    return update
