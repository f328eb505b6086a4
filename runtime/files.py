"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well and goes when it does not."""
    path = path.resolve()  # a link stays one
    aside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        error.filename = str(path)  # which the caller knows
        raise
    finally:
        aside.unlink(missing_ok=True)
