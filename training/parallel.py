"""Data-parallel training under torchrun: every process computes its share of each joined batch, all hold equal weights.

Processes draw the same random numbers for the whole joined batch and take their own rows of them, so that N processes
do what one would do alone. Without torchrun every function here is that of a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

OF_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}  # in the environment


@contextmanager
def group(device: torch.device) -> Iterator[torch.device]:
    """Inside, this process belongs to the group that torchrun describes, if there is one; gives its device."""
    if not os.environ.keys() >= OF_TORCHRUN:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


_apart = False


@contextmanager
def alone() -> Iterator[None]:
    """Inside, every process computes the whole of what it is given, all of them the same."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def count() -> int:
    """How many processes share a batch."""
    return dist.get_world_size() if dist.is_initialized() and not _apart else 1


def is_first() -> bool:
    """Whether this is the process that writes files and reports."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait() -> None:
    """Until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def same(state: Any) -> None:
    """Give all processes the first one's tensors of nested dicts and lists, in place.

    It is for what each has come to alone: on a GPU the last bits may differ.
    """
    if not dist.is_initialized():
        return
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        for each in state:
            same(each)
    elif isinstance(state, Tensor) and (state.is_cuda or dist.get_backend() == "gloo"):
        first = state.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(first, 0)
        state.detach().copy_(first)


def share(rows: Any) -> Any:
    """The rows that are this process's of a joined batch, any sequence or tensor."""
    size = len(rows) // count()
    first = size * dist.get_rank() if count() > 1 else 0
    return rows[first : first + size]


def randn_like(rows: Tensor) -> Tensor:
    """Standard normal numbers for this process's rows."""
    return share(torch.randn(len(rows) * count(), *rows.shape[1:], device=rows.device))


def randn(rows: int, device: torch.device, *shape: int) -> Tensor:
    """Standard normal numbers (rows, *shape) for this process's rows."""
    return share(torch.randn(rows * count(), *shape, device=device))


def rand(rows: int, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), one for each of this process's rows."""
    return share(torch.rand(rows * count(), device=device))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one exchange."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined)
    joined /= count()
    for gradient, mean in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean(values: Tensor) -> Tensor:
    """The mean over the processes, through which gradients pass."""
    return values if count() == 1 else _Mean.apply(values)


def joined(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order in which share divides them; no gradient passes through."""
    if count() == 1:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(count())]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        joined = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(joined)
        return joined / count()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        joined = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(joined)
        return joined / count()


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of the joined batch."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or count() == 1:
            return super().forward(x)
        channels = x.float().transpose(0, 1).flatten(1)
        centre = mean(channels.mean(1))
        variance = mean((channels - centre[:, None]).square().mean(1))
        with torch.no_grad():
            size = channels.shape[1] * count()
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.running_mean.lerp_(centre, self.momentum)
            self.running_var.lerp_(variance * (size / (size - 1)), self.momentum)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - centre * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
