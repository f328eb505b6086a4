"""The training loop that every network shares: epochs, learning rate, moving average, log, checkpoints."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from runtime.errors import ToolkitError
from runtime.tracking import Tracker, untracked

Losses = dict[str, Tensor]


class TrainingDivergedError(ToolkitError):
    """A loss became infinite or not a number."""


@dataclass(frozen=True)
class Options:
    """How to train: what the command line says of it."""

    lr: float = 1e-3
    total_epochs: int = 10
    batch_size: int = 128
    milestones: tuple[int, ...] = ()
    gamma: float = 0.2
    seed: int = 0
    num_workers: int = 0
    ema_decay: float = 0.999
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def learning_rate(self, epoch: float) -> float:
        """Without milestones a cosine that ends at zero; with them a factor gamma at each."""
        if self.milestones:
            return self.lr * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.total_epochs))


class TensorRows(Dataset[tuple[Tensor, ...]]):
    """Tensors of equal length in memory, read many rows at a time."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[torch.as_tensor(rows)] for tensor in self.tensors)


def fit(
    model: nn.Module,
    data: TensorRows,
    losses_of: Callable[[nn.Module, tuple[Tensor, ...]], Losses],
    test_losses_of: Callable[[nn.Module], dict[str, float]],
    options: Options,
    on_epoch: Callable[[nn.Module, dict[str, Any]], None],
    track: Tracker = untracked,
) -> nn.Module:
    """Train `model` in place; returns the moving average of its weights, in evaluation mode.

    losses_of(model, batch) gives named scalars, of which "loss" is minimised. After each epoch
    on_epoch(average, record) gets the averaged network and the epoch's JSON-ready record.
    Raises TrainingDivergedError, with the step, where the loss is not finite.
    """
    average = AveragedModel(model, multi_avg_fn=_moving_average(options.ema_decay), use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), options.lr, fused=True)
    order = BatchSampler(
        RandomSampler(data, generator=torch.Generator().manual_seed(options.seed)), options.batch_size, drop_last=True
    )
    if not len(order):
        raise ToolkitError(f"{len(data)} training examples do not fill one batch of {options.batch_size}")
    loader = DataLoader(
        data,
        sampler=order,
        batch_size=None,
        num_workers=options.num_workers,
        persistent_workers=options.num_workers > 0,
    )
    for epoch in range(options.total_epochs):
        started, sums = time.monotonic(), defaultdict[str, Tensor](lambda: torch.zeros((), device=options.device))
        model.train()
        label = f"epoch {epoch + 1}/{options.total_epochs}"
        for step, batch in enumerate(track(loader, len(order), label)):
            _set_learning_rate(optimiser, options.learning_rate(epoch + step / len(order)))
            losses = losses_of(model, tuple(tensor.to(options.device) for tensor in batch))
            if not torch.isfinite(losses["loss"]):
                raise TrainingDivergedError(
                    f"the loss is {losses['loss'].item()} at step {epoch * len(order) + step}: try a lower --lr"
                )
            optimiser.zero_grad()
            losses["loss"].backward()
            optimiser.step()
            average.update_parameters(model)
            for name, value in losses.items():
                sums[name] += value.detach()
        average.eval()
        record = {
            "epoch": epoch + 1,
            "lr": options.learning_rate(epoch),
            "train": {name: value.item() / len(order) for name, value in sums.items()},
            "test": test_losses_of(average.module),
            "seconds": round(time.monotonic() - started, 2),
        }
        on_epoch(average.module, record)
    return average.module


def mean_losses(
    model: nn.Module,
    data: TensorRows,
    losses_of: Callable[[nn.Module, tuple[Tensor, ...]], Losses],
    batch_size: int,
    device: torch.device,
) -> dict[str, float]:
    """The losses over a whole set, weighted by batch size."""
    sums: dict[str, float] = defaultdict(float)
    with torch.no_grad():
        for rows in torch.arange(len(data)).split(batch_size):
            batch = tuple(tensor.to(device) for tensor in data[rows.tolist()])
            for name, value in losses_of(model, batch).items():
                sums[name] += value.item() * len(rows) / len(data)
    return dict(sums)


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Exponential moving average whose memory grows with the steps taken, up to `decay`."""

    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        floats = [(a, v) for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
        if floats:
            torch._foreach_lerp_([a for a, _ in floats], [v for _, v in floats], weight)

    return update


def _set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr
