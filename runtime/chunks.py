"""Many rows in pieces: few enough at a time that memory is bounded, and side by side where there are threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Result = TypeVar("Result")
CHUNK = 256  # rows at a time, at most
WORTHWHILE = 8  # rows that pay for a thread
MOST_BY_DEFAULT = 4


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


DEFAULT_THREADS = min(cores(), MOST_BY_DEFAULT)


def in_chunks(function: Callable[[slice], Result], rows: int, threads: int) -> list[Result]:
    """What a function gives of each of the slices of so many rows, in order; the list is empty where there are none.

    The caller's thread is one of the threads. The function may be called by several at once, and must not call this.
    """
    pieces = min(threads * math.ceil(rows / (threads * CHUNK)), max(1, rows // WORTHWHILE))
    bounds = [rows * piece // pieces for piece in range(pieces + 1)] if rows else []
    slices = [slice(start, stop) for start, stop in pairwise(bounds)]
    if threads == 1 or len(slices) < 2:
        return [function(each) for each in slices]
    workers = _workers(threads - 1, os.getpid())
    waiting = {index: workers.submit(function, each) for index, each in enumerate(slices) if index % threads}
    try:
        own = {index: function(each) for index, each in enumerate(slices) if index % threads == 0}
        return [own[index] if index in own else waiting[index].result() for index in range(len(slices))]
    finally:
        for piece in waiting.values():
            piece.cancel()  # after an error nobody waits for it


@cache
def _workers(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work, of this process: a forked one has none of its parent's."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads, "runtime")
