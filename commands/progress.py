"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BEFORE_FIRST = 1.0


def note(text: str) -> None:
    """A remark for people, on standard error."""
    click.echo(text, err=True)


def track(items: Iterable[T], total: int, label: str) -> Iterable[T]:
    """A runtime.tracking.Tracker: passes items through and shows how far they are."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return _bar(items, total, label) if on_terminal else _lines(items, total, label)


def _bar(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    started, done = time.monotonic(), 0

    def rate(_: T | None) -> str:
        return f"{done / max(time.monotonic() - started, 1e-9):,.1f}/s"

    with click.progressbar(
        items, length=total, label=label, file=sys.stderr, show_pos=True, item_show_func=rate
    ) as bar:
        for item in bar:
            done += 1
            yield item


def _lines(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    started = time.monotonic()
    due = started + SECONDS_BEFORE_FIRST
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now >= due:
            rate = done / (now - started)
            note(f"{label}: {done:,} of {total:,}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left")
            due = now + SECONDS_BETWEEN_LINES
        yield item
