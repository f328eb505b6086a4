"""How long work tells of its progress without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Tracker(Protocol):
    """Passes `items` through, one by one, and may show how many of `total` are done."""

    def __call__(self, items: Iterable[T], total: int, label: str) -> Iterable[T]: ...


def untracked(items: Iterable[T], total: int, label: str) -> Iterable[T]:
    """The tracker that shows nothing."""
    return items
