"""Many rows in pieces: few enough at a time that memory is bounded, and side by side where there are threads."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

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
    count = min(threads * math.ceil(rows / (threads * CHUNK)), max(1, rows // WORTHWHILE))
    bounds = [rows * piece // count for piece in range(count + 1)] if rows else []
    slices = [slice(start, stop) for start, stop in pairwise(bounds)]
    if threads == 1 or len(slices) < 2:
        return [function(each) for each in slices]
    pieces = _Pieces(function, slices)
    helpers = _helpers(threads - 1, os.getpid())
    for _ in range(min(threads, count) - 1):
        helpers.put(pieces)
    return pieces.all_done()


class _Pieces(Generic[Result]):
    """The slices of one call, each for the first thread that takes it; after an error they are passed over."""

    def __init__(self, function: Callable[[slice], Result], slices: list[slice]) -> None:
        self._function = function
        self._count = len(slices)
        self._left = deque(enumerate(slices))
        self._done: SimpleQueue[int] = SimpleQueue()
        self._results: dict[int, Result] = {}
        self._errors: list[BaseException] = []

    def work(self) -> None:
        """Take slices for as long as any is left."""
        while True:
            try:
                index, rows = self._left.popleft()
            except IndexError:
                return
            try:
                if not self._errors:
                    self._results[index] = self._function(rows)
            except BaseException as error:  # which the caller raises
                self._errors.append(error)
            self._done.put(index)

    def all_done(self) -> list[Result]:
        """Work, and wait for what others have taken; raises what went wrong first, in whichever thread."""
        self.work()
        for _ in range(self._count):
            self._done.get()
        if self._errors:
            raise self._errors[0]
        return [self._results[index] for index in range(self._count)]


@cache
def _helpers(threads: int, process: int) -> SimpleQueue[_Pieces[Any]]:
    """Where threads of this process wait for work: a forked one has none of its parent's.

    concurrent.futures has such threads, too, and takes longer to load than they save of a first page.
    """
    waiting: SimpleQueue[_Pieces[Any]] = SimpleQueue()

    def help_on() -> None:
        while True:
            waiting.get().work()

    for _ in range(threads):
        threading.Thread(target=help_on, name="runtime", daemon=True).start()
    return waiting
