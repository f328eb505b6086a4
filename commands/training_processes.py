"""The device and the processes of a training, and what of it is said once, however many processes there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import torch

from training import parallel


@contextmanager
def processes(device: str, threads: int | None) -> Iterator[torch.device]:
    """The device of --device for a block in which the processes of torchrun train together; threads: of torch."""
    if threads:
        torch.set_num_threads(threads)
    with parallel.group(torch_device(device)) as own:
        yield own


def say(line: str) -> None:
    """Print a line once, however many processes train."""
    if parallel.is_first():
        click.echo(line)


def agreed(question: str) -> bool:
    """Whether somebody is there to ask, and agrees."""
    somebody = sys.stdin is not None and sys.stdin.isatty()
    return parallel.count() == 1 and somebody and click.confirm(question)


def torch_device(name: str) -> torch.device:
    """The device of --device, on which float32 is no less and results repeat; UsageError where it is not there."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        why = str(error).splitlines()[0][:200]
        raise click.UsageError(f"--device {name!r} is not to be had here: {why}") from error
    return device
