"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well and goes when it does not.

    It has the permissions of the file that was there. Raises OSError where `path` is write-protected, or no file: a
    device is not replaced.
    """
    suffix = path.suffix  # which tells writers the format
    try:
        path = path.resolve()  # a link stays one
    except RuntimeError as error:  # before Python 3.13; from then on a loop of links stays one
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "is there and no file", str(path))
    if path.exists() and not os.access(path, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    aside = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}{suffix}")
    try:
        yield aside
        if path.exists():
            aside.chmod(path.stat().st_mode)
        aside.replace(path)
    except OSError as error:
        if error.filename in (None, str(aside)):
            error.filename, error.filename2 = str(path), None  # which the caller knows
        raise
    finally:
        aside.unlink(missing_ok=True)
